"""`%blockrun lesson`: hand a notebook out with its pictures, and open one that was handed out."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from blockrun_magic.errors import FlagError, LessonError, WalletError
from blockrun_magic.notebook.commands.wallet.keys import wallets_here
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Message
from blockrun_magic.studio.lessons import FOLDER, INDEX, open_lesson, write_lesson
from blockrun_magic.text import did_you_mean, quoted

__all__ = ["USAGE", "lesson"]

USAGE = "lesson [export FILE.zip [--notebook NB] [--strict]|open FILE.zip|close]"
_STRICT, _NOTEBOOK = "--strict", "--notebook"
_MOST_BYTES = 2_000_000_000
_NAME = r"[^/\\:.][^/\\:]*"
_ENTRY = re.compile(rf"{_NAME}\.ipynb|{_NAME}{re.escape(FOLDER)}/(?:{INDEX}|[0-9a-f]{{64}}\.(?:png|jpg|webp))")
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
    studio, _ = context.session.ready()
    lines = [
        f"{found.name}: {len(found)} answers, "
        f"{'and nothing else is made' if found.strict else 'and practice makes the rest'}."
        for found in studio.lessons
    ]
    return Message("\n".join(lines) or "No lesson is open. `%blockrun lesson open FILE.zip` opens one.")


def _export(context: Context, words: Sequence[str]) -> Card:
    target, notebook, strict = _said(words)
    if target.exists():
        raise FlagError(f"{target} exists already.", "Nothing was written over. Choose another name, or remove it.")
    studio, _ = context.session.ready()
    results = [result for key in list(studio.delivered) if (result := studio.kept(*key)) is not None]
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


def _said(words: Sequence[str]) -> tuple[Path, Path, bool]:
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


def _unpack(archive: Path) -> tuple[Path, list[str]]:
    """Unpack a lesson beside its ZIP file, never over a file that is another; return its folder, and what to say."""
    try:
        with zipfile.ZipFile(archive) as packed:
            entries = packed.infolist()
            if sum(entry.file_size for entry in entries) > _MOST_BYTES:
                raise LessonError(f"{archive} is unreasonably large.", "Get the lesson again from where it came.")
            places = {entry.filename: _place_of(entry.filename, archive) for entry in entries}
            lines = [_put(place, packed.read(name)) for name, place in places.items()]
    except (OSError, zipfile.BadZipFile) as error:
        raise LessonError(f"{archive} cannot be unpacked: {error}.", "Check its name, or get it again.") from error
    folder = next((place.parent for place in places.values() if place.name == INDEX), None)
    if folder is None:
        raise LessonError(f"{archive} holds no lesson.", "`%blockrun lesson export FILE.zip` makes one.")
    notebooks = [f"Its notebook is {place}." for place in places.values() if place.suffix == ".ipynb"]
    return folder, [*notebooks, *filter(None, lines)]


def _place_of(name: str, archive: Path) -> Path:
    """Return where an entry of a lesson belongs; raises LessonError for a name that no lesson has."""
    if _ENTRY.fullmatch(name) is None:
        raise LessonError(f"{archive} holds {quoted(name)}, which no lesson has.", "Nothing was unpacked.")
    return archive.parent.joinpath(*name.split("/"))


def _put(place: Path, content: bytes) -> str:
    """Write a file that is not there yet; return what to say where another one is."""
    if place.exists():
        return "" if place.read_bytes() == content else f"{place} was there already, and is another: it stays as it is."
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(content)
    return ""


def _close(context: Context, words: Sequence[str]) -> Card:
    if words:
        raise FlagError("`lesson close` takes no more words.", "Write: %blockrun lesson close.")
    studio, _ = context.session.ready()
    names = ", ".join(found.name for found in studio.lessons)
    studio.lessons = []
    return Message(f"Closed: {names}." if names else "No lesson is open.")


_WORDS: dict[str, Callable[[Context, Sequence[str]], Card]] = {"export": _export, "open": _open, "close": _close}
