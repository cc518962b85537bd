"""`%blockrun lesson`: pack a notebook with its images, and open such a lesson."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from blockrun_magic.errors import LessonError, UsageError, WalletError
from blockrun_magic.notebook.commands.arguments import Argument, Arguments, Command
from blockrun_magic.notebook.commands.wallet.keys import wallets_here
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Message
from blockrun_magic.payments.secrets import Secret
from blockrun_magic.studio.lessons.archive import pack_lesson, unpack_lesson
from blockrun_magic.studio.lessons.lesson import open_lesson
from blockrun_magic.studio.lessons.secret_scan import check_no_secrets, secrets_of_user
from blockrun_magic.studio.results.result import ImageResult
from blockrun_magic.text import quoted
from blockrun_magic.wiring import ENVIRON, blockrun_home

__all__ = ["LESSON"]


def _which(context: Context, _arguments: Arguments) -> Card:
    studio, _ = context.session.studio_and_gateway()
    lines = [
        f"{lesson.name}: {len(lesson)} answers, "
        f"{'and nothing else is made' if lesson.strict else 'and practice makes the rest'}."
        for lesson in studio.lessons
    ]
    return Message("\n".join(lines) or "No lesson is open. `%blockrun lesson open FILE.zip` opens one.")


def _export(context: Context, arguments: Arguments) -> Card:
    target, notebook, strict = _export_arguments(arguments)
    if target.exists():
        raise UsageError(f"{target} exists already.", "Choose another name, or remove the file.")
    studio, _ = context.session.studio_and_gateway()
    results = [result for key in list(studio.lessons.delivered) if (result := studio.stored_result(*key)) is not None]
    if not results:
        raise LessonError(
            "This kernel has made no image yet.", "Run the notebook's cells first; stored images cost nothing."
        )
    check_no_secrets(notebook, _own_secrets(), _own_digests(results))
    answers = pack_lesson(target, notebook, results, strict=strict)
    size = target.stat().st_size / 1e6
    lines = [
        f"{target}: {notebook.name} with {answers} answers, {size:.1f} MB.",
        "Unpack it, or run `%blockrun lesson open`: its images cost $0, offline and without a wallet.",
    ]
    return Message("\n".join(lines))


def _export_arguments(arguments: Arguments) -> tuple[Path, Path, bool]:
    target = arguments["FILE.zip"]
    if not target.lower().endswith(".zip"):
        raise UsageError(
            f"{quoted(target)} is not the name of a ZIP file.", "For example: `%blockrun lesson export fox.zip`."
        )
    return _absolute_path(target), _notebook(arguments["--notebook"]), bool(arguments["--strict"])


def _notebook(named: str | None) -> Path:
    """Return the notebook to pack: the named one, the running one, or the only one in this folder."""
    if named is not None:
        path = _absolute_path(named)
        if not path.is_file():
            raise UsageError(f"There is no notebook {path}.", "Save it first, and check its name.")
        return path
    running = Path(os.environ.get("JPY_SESSION_NAME", "")).name
    if running.endswith(".ipynb") and Path(running).is_file():
        return Path(running)
    here = sorted(Path().glob("*.ipynb"))
    if len(here) == 1:
        return here[0]
    raise UsageError("It is not clear which notebook this is.", "Save it, and name it: --notebook NAME.ipynb.")


def _own_secrets() -> list[Secret]:
    """Return every secret of this user: variables, key files, and the wallets that are unlocked."""
    secrets = secrets_of_user(ENVIRON, Path.home(), blockrun_home())
    for _, wallet in wallets_here():
        if not isinstance(wallet, WalletError) and not wallet.locked:
            secrets.append(wallet.sealed_key())
    return secrets


def _own_digests(results: Sequence[ImageResult]) -> set[str]:
    """Return the transactions and digests that may appear in a notebook with `results`."""
    texts = {text for result in results for text in (result.receipt.transaction, result.receipt.request_digest) if text}
    files = {stored.file for result in results for stored in result.stored}
    return {text.removeprefix("sha256:") for text in texts | files}


def _open(context: Context, arguments: Arguments) -> Card:
    path = _absolute_path(arguments["FILE.zip"])
    lines: list[str] = []
    if path.suffix.lower() == ".zip":
        path, lines = unpack_lesson(path)
    studio = context.session.studio
    lesson = open_lesson(path)
    studio.lessons.open(lesson)
    context.session.selection.use("practice", f"for images that the lesson {lesson.name} does not contain")
    rest = "Cells that it does not answer are errors." if lesson.strict else "Practice makes the rest."
    lines.insert(0, f"The lesson {lesson.name} is open: {len(lesson)} answers, each for $0. {rest}")
    return Message("\n".join(lines))


def _close(context: Context, _arguments: Arguments) -> Card:
    names = ", ".join(context.session.lessons.close())
    return Message(f"Closed: {names}." if names else "No lesson is open.")


def _absolute_path(text: str) -> Path:
    """Return the absolute path of `text`, as typed; raises UsageError for an impossible path."""
    try:
        path = Path(text).expanduser().absolute()
        path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"{quoted(text)} is not a path: {error}.", "Check the name.") from error
    return path


LESSON = Command(
    "lesson",
    "Share a notebook with its images, or open one: they answer its cells for $0.",
    _which,
    subcommands=(
        Command(
            "export",
            "Pack the notebook and its images.",
            _export,
            (
                Argument("FILE.zip", "path", "The ZIP file to write.", required=True),
                Argument("--notebook", "path", "The notebook, if it is not this one.", "NB"),
                Argument("--strict", "switch", "Cells without an image in the lesson are errors."),
            ),
        ),
        Command(
            "open",
            "Open a lesson.",
            _open,
            (Argument("FILE.zip", "path", "The ZIP file or folder to open.", required=True),),
        ),
        Command("close", "Close all lessons.", _close),
    ),
)
