"""`%blockrun lesson`: hand a notebook out with its pictures, and open one that was handed out."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from blockrun_magic.errors import LessonError, UsageError, WalletError
from blockrun_magic.files import read_file
from blockrun_magic.notebook.commands.arguments import Argument, Arguments, Command
from blockrun_magic.notebook.commands.wallet.keys import wallets_here
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Message
from blockrun_magic.studio.lessons.archive import _unpack
from blockrun_magic.studio.lessons.lesson import FOLDER, open_lesson, write_lesson
from blockrun_magic.text import quoted

__all__ = ["LESSON"]

_MAX_NOTEBOOK = 200_000_000
_PAYMENT_HEADERS = ("PAYMENT-SIGNATURE", "X-PAYMENT")


def _which(context: Context, _arguments: Arguments) -> Card:
    studio, _ = context.session.studio_and_gateway()
    lines = [
        f"{found.name}: {len(found)} answers, "
        f"{'and nothing else is made' if found.strict else 'and practice makes the rest'}."
        for found in studio.lessons
    ]
    return Message("\n".join(lines) or "No lesson is open. `%blockrun lesson open FILE.zip` opens one.")


def _export(context: Context, arguments: Arguments) -> Card:
    target, notebook, strict = _export_arguments(arguments)
    if target.exists():
        raise UsageError(f"{target} exists already.", "Nothing was written over. Choose another name, or remove it.")
    studio, _ = context.session.studio_and_gateway()
    results = [result for key in list(studio.delivered) if (result := studio.stored_result(*key)) is not None]
    if not results:
        raise LessonError(
            "This kernel has made no picture yet.", "Run the notebook's cells first; kept ones cost nothing."
        )
    _check_no_secrets(notebook)
    draft = target.with_name(f".{target.name}.part")
    with TemporaryDirectory() as place:
        folder = Path(place) / f"{target.stem}{FOLDER}"
        made = write_lesson(folder, results, strict=strict)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.write(notebook, f"{target.stem}.ipynb")
                for path in sorted(folder.iterdir()):
                    archive.write(path, f"{folder.name}/{path.name}")
            draft.replace(target)
        except OSError as error:
            raise LessonError(f"{target} cannot be written: {error}.", "Choose another place for it.") from error
        finally:
            draft.unlink(missing_ok=True)
    size = target.stat().st_size / 1e6
    lines = [
        f"{target}: {notebook.name} with {len(made)} answers, {size:.1f} MB.",
        "Who unpacks it, or says `%blockrun lesson open`, has the same pictures for $0, offline and without a wallet.",
    ]
    return Message("\n".join(lines))


def _export_arguments(arguments: Arguments) -> tuple[Path, Path, bool]:
    target = arguments["FILE.zip"]
    if not target.lower().endswith(".zip"):
        raise UsageError(
            f"{quoted(target)} is not the name of a ZIP file.", "For example: %blockrun lesson export fox.zip."
        )
    return Path(target).expanduser(), _notebook(arguments["--notebook"]), bool(arguments["--strict"])


def _notebook(named: str | None) -> Path:
    """Return the notebook to pack: the one that is named, the one that runs, or the only one here."""
    if named is not None:
        path = Path(named).expanduser()
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


def _check_no_secrets(notebook: Path) -> None:
    """Raise LessonError where the notebook holds a key of this user, or a payment header."""
    try:
        text = read_file(notebook, _MAX_NOTEBOOK).decode("utf-8", "replace")
    except OSError as error:
        raise LessonError(f"{notebook} cannot be read: {error.strerror}.", "Name another with --notebook.") from error
    said = text.lower()
    keys = [os.environ.get(name, "") for name in ("SOLANA_WALLET_KEY", "BLOCKRUN_API_KEY", "BLOCKRUN_WALLET_KEY")]
    found = any(len(key) > 20 and key.removeprefix("0x").lower() in said for key in keys)
    for _, kept in wallets_here():
        if not isinstance(kept, WalletError) and not kept.locked:
            found |= str(kept.sealed_key().reveal()).removeprefix("0x").lower() in said
    del keys
    if found or any(f'"{header}": "' in text for header in _PAYMENT_HEADERS):
        raise LessonError(
            "The notebook holds a key, or a payment header.", "Remove it there, save, and move the money of that key."
        )


def _open(context: Context, arguments: Arguments) -> Card:
    path = Path(arguments["FILE.zip"]).expanduser()
    lines: list[str] = []
    if path.suffix.lower() == ".zip":
        path, lines = _unpack(path)
    studio = context.session.studio
    found = open_lesson(path)
    studio.lessons = [found, *(known for known in studio.lessons if known.name != found.name)]
    context.session.use("practice", f"for what the lesson {found.name} does not hold")
    rest = "Cells that it does not answer are errors." if found.strict else "Practice makes what it does not hold."
    lines.insert(0, f"The lesson {found.name} is open: {len(found)} answers, each for $0. {rest}")
    return Message("\n".join(lines))


def _close(context: Context, _arguments: Arguments) -> Card:
    studio, _ = context.session.studio_and_gateway()
    names = ", ".join(found.name for found in studio.lessons)
    studio.lessons = []
    return Message(f"Closed: {names}." if names else "No lesson is open.")


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
