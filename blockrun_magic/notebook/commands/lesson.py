"""`%blockrun lesson`: hand a notebook out with its pictures, and open one that was handed out."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from blockrun_magic.errors import FlagError, LessonError, WalletError
from blockrun_magic.notebook.commands.wallet.keys import wallets_here
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Message
from blockrun_magic.studio.lessons.archive import _unpack
from blockrun_magic.studio.lessons.lesson import FOLDER, open_lesson, write_lesson
from blockrun_magic.text import did_you_mean, quoted

__all__ = ["USAGE", "lesson"]

USAGE = "lesson [export FILE.zip [--notebook NB] [--strict]|open FILE.zip|close]"
_STRICT, _NOTEBOOK = "--strict", "--notebook"
_PAYMENT_HEADERS = ("PAYMENT-SIGNATURE", "X-PAYMENT")


def lesson(context: Context, words: Sequence[str]) -> Card:
    """Export or open a lesson; without a word, say which are open."""
    if not words:
        return _which(context)
    word, *rest = words
    run = _WORDS.get(word)
    if run is None:
        raise FlagError(
            f"`lesson` knows no word {quoted(word)}.", f"{did_you_mean(word, _WORDS)}It knows {', '.join(_WORDS)}."
        )
    return run(context, rest)


def _which(context: Context) -> Card:
    studio, _ = context.session.studio_and_gateway()
    lines = [
        f"{found.name}: {len(found)} answers, "
        f"{'and nothing else is made' if found.strict else 'and practice makes the rest'}."
        for found in studio.lessons
    ]
    return Message("\n".join(lines) or "No lesson is open. `%blockrun lesson open FILE.zip` opens one.")


def _export(context: Context, words: Sequence[str]) -> Card:
    target, notebook, strict = _parse_arguments(words)
    if target.exists():
        raise FlagError(f"{target} exists already.", "Nothing was written over. Choose another name, or remove it.")
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


def _parse_arguments(words: Sequence[str]) -> tuple[Path, Path, bool]:
    rest = [word for word in words if word != _STRICT]
    named = None
    if _NOTEBOOK in rest:
        at = rest.index(_NOTEBOOK)
        named = rest[at + 1] if at + 1 < len(rest) else None
        del rest[at : at + 2]
    if len(rest) != 1 or not rest[0].lower().endswith(".zip"):
        raise FlagError("`lesson export` takes the name of a ZIP file.", "Such as %blockrun lesson export fox.zip.")
    return Path(rest[0]).expanduser(), _notebook(named), _STRICT in words


def _notebook(named: str | None) -> Path:
    """Return the notebook to pack: the one that is named, the one that runs, or the only one here."""
    if named is not None:
        path = Path(named).expanduser()
        if not path.is_file():
            raise FlagError(f"There is no notebook {path}.", "Save it first, and check its name.")
        return path
    running = Path(os.environ.get("JPY_SESSION_NAME", "")).name
    if running.endswith(".ipynb") and Path(running).is_file():
        return Path(running)
    here = sorted(Path().glob("*.ipynb"))
    if len(here) == 1:
        return here[0]
    raise FlagError("It is not clear which notebook this is.", f"Save it, and name it: {_NOTEBOOK} NAME.ipynb.")


def _check_no_secrets(notebook: Path) -> None:
    """Raise LessonError where the notebook holds a key of this user, or a payment header."""
    text = notebook.read_text("utf-8", "replace")
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


def _open(context: Context, words: Sequence[str]) -> Card:
    if len(words) != 1:
        raise FlagError("`lesson open` takes a ZIP file, or a folder.", "Such as %blockrun lesson open fox.zip.")
    path = Path(words[0]).expanduser()
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


def _close(context: Context, words: Sequence[str]) -> Card:
    if words:
        raise FlagError("`lesson close` takes no more words.", "Write: %blockrun lesson close.")
    studio, _ = context.session.studio_and_gateway()
    names = ", ".join(found.name for found in studio.lessons)
    studio.lessons = []
    return Message(f"Closed: {names}." if names else "No lesson is open.")


_WORDS: dict[str, Callable[[Context, Sequence[str]], Card]] = {"export": _export, "open": _open, "close": _close}
