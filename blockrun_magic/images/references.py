"""References to images, as text after `--image` and `--mask`: URLs, variables and files."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from blockrun_magic.errors import SourceError
from blockrun_magic.images.detection import (
    IMAGE_SUFFIXES,
    can_be_bundled,
    extract_stream,
    is_array,
    is_image_like,
    is_pil,
)
from blockrun_magic.images.formats import is_image
from blockrun_magic.text import any_of, closest

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DATA_URI", "URL", "Subject", "as_link", "find_source", "from_base64", "kind_of", "local_path", "subject_of"]

URL = re.compile(r"https?://", re.IGNORECASE)
DATA_URI = re.compile(r"data:[^,]*+,", re.IGNORECASE)
_STEP = re.compile(r"""\.(?P<attribute>[^\W\d]\w*+)|\[(?P<index>-?\d{1,9})\]|\[(?P<key>"[^"]*+"|'[^']*+')\]""")
_CODE = re.compile(r"[()\[\]]")
_NAME = re.compile(r"[^\W\d]\w*+")
_FILES_LOOKED_AT = 2000
_SUGGESTIONS = 4
_MAX_NAME = 200
_MAX_DIMENSIONS = 4
_PLAIN_MODES = frozenset({"1", "L", "RGB", "RGBA"})
_PREFIX = 64
"""Characters of base64 that are enough to recognize an image."""
_OTHER_URL = re.compile(r"(?:[a-z][a-z0-9+.-]*+://|www\.[^/\s]+/)", re.IGNORECASE)
_FILE_URL = re.compile(r"file://", re.IGNORECASE)
_OPENER = "from blockrun_magic.images.source import open_source; "


@dataclass(frozen=True, slots=True)
class Subject:
    """The name of an image in errors: `words` begin a sentence, and hints are Python that can be pasted."""

    words: str
    reference: str
    """The Python expression of the image: a variable, or a path in quotes."""
    variable: str
    """The variable to which hints assign."""
    is_mask: bool = False
    opened: bool = False
    """Whether `reference` is a PIL image already."""

    def numpy_code(self, change: str) -> str:
        """Return a line that assigns `change`, an expression that may use `np`."""
        return f"import numpy as np; {self.variable} = {change}"

    def pil_code(self, change: str, imports: str = "") -> str:
        """Return a line that assigns `change`, an expression in which {} stands for the PIL image."""
        image = self.reference if self.opened else f"open_source({self.reference})"
        if self.reference.startswith("urllib."):
            imports = f"import urllib.request; {imports}"
        return f"{imports}{'' if self.opened else _OPENER}{self.variable} = {change.format(image)}"


def subject_of(value: object, text: str = "", *, is_mask: bool = False) -> Subject:
    """Return the name of `value` for errors, from the user's `text`: short, without a URL's secrets."""
    role = "mask" if is_mask else "image"
    words, reference = f"The {role}", role
    if _is_reference(text) and str(value) != text:
        words, reference = f"The {role} {text[:_MAX_NAME]}", text
    elif isinstance(value, str | os.PathLike):
        location = _location(value)
        words = location if not is_mask else f"The mask {location}" if location[:4] != "The " else location
        if location == str(value):
            reference = f"urllib.request.urlopen({location!r})" if URL.match(location) else repr(location)
    variable = reference if _NAME.fullmatch(reference) else role
    opened = is_pil(value) and getattr(value, "mode", "") in _PLAIN_MODES
    return Subject(words, reference, variable, is_mask, opened)


def as_link(text: str) -> str | None:
    """Return a URL or a data URI without the white space around it; None for any other text."""
    link = text.strip() if text[:1].isspace() or text[-1:].isspace() else text
    return link if URL.match(link) or DATA_URI.match(link) else None


def local_path(text: str | os.PathLike[str]) -> Path:
    """Return `text` as a path, with `~` and file: URLs resolved; raises RuntimeError for an unknown home."""
    name = os.fspath(text)
    if _FILE_URL.match(name):
        from urllib.request import url2pathname

        name = url2pathname(urlsplit(name).path)
    return Path(name).expanduser()


def from_base64(text: str | bytes) -> bytes | None:
    """Return the image of a base64 text, as in OpenAI's `b64_json`; None for any other text."""
    start = text[:_MAX_NAME].lstrip()
    try:
        if len(start) < _PREFIX or not is_image(base64.b64decode(start[:_PREFIX], validate=True)):
            return None
        joined = b"".join(text.split()) if isinstance(text, bytes) else "".join(text.split())
        return base64.b64decode(joined, validate=True)
    except (binascii.Error, ValueError):
        return None


def _is_reference(text: str) -> bool:
    """Return whether `text` is a variable, or lookups in one."""
    name = _NAME.match(text)
    return name is not None and name[0] + "".join(_steps(text, name)) == text


def _steps(text: str, name: re.Match[str]) -> list[str]:
    return [step[0] for step in _STEP.finditer(text, name.end())]


def _location(source: str | os.PathLike[str]) -> str:
    """Return a path, or a URL without user, password and query."""
    if not isinstance(source, str):
        return str(source)
    if DATA_URI.match(source[:_MAX_NAME]):
        return "The data URI"
    if not URL.match(source) and "://" not in source[:_MAX_NAME]:
        return source[:_MAX_NAME]
    bare = re.split(r"[?#]", source, maxsplit=1)[0]
    scheme, _, rest = bare.partition("//")
    host, slash, path = rest.partition("/")
    return f"{scheme}//{host.rpartition('@')[2]}{slash}{path}"[:_MAX_NAME]


def find_source(text: str, namespace: Mapping[str, object], role: str = "image") -> object:
    """Return the source for `text`: the URL or data URI itself, a variable's value, or an existing Path.

    `name`, `name[3]`, `name.attribute` and `name["key"]`, in any combination, are looked up, and nothing is called.
    A variable that is not an image gives way to a file of that name. Raises SourceError, which calls it by its `role`.
    """
    if URL.match(text) or DATA_URI.match(text):
        return text
    path = _existing(text)
    name = _NAME.match(text)
    if path is None and _OTHER_URL.match(text):
        raise SourceError(
            f"{_location(text)} is not an http or https URL.", "Download the image, and give its path or a variable."
        )
    if name is None or not _is_reference(text) or name[0] not in namespace:
        if path is not None:
            return path
        raise SourceError(f"There is no {role} {text[:_MAX_NAME]!r} here.", _suggest(text, namespace))
    steps = list(_STEP.finditer(text, name.end()))
    try:
        value = _usable(_look_up(namespace[name[0]], name[0], steps))
    except SourceError:
        if path is not None:
            return path
        if Path(text).suffix.lower() in IMAGE_SUFFIXES:  # meant as a file, although a variable has this name
            raise SourceError(f"There is no image {text[:_MAX_NAME]!r} here.", _suggest(text, namespace)) from None
        raise
    if value is not None:
        return value
    if path is not None:
        return path
    value = _look_up(namespace[name[0]], name[0], steps)
    article = "an" if role == "image" else "a"
    raise SourceError(f"{text} is {kind_of(value)}, not {article} {role}.", _what_to_name(text, value))


def _look_up(value: Any, name: str, steps: list[re.Match[str]]) -> object:
    for step in steps:
        try:
            if step["attribute"] is not None:
                value = getattr(value, step["attribute"])
            elif step["index"] is not None:
                value = value[int(step["index"])]
            else:
                value = value[step["key"][1:-1]]
        except Exception as error:
            raise _missing(value, name, step) from error
        name += step[0]
    return value


def _missing(value: object, name: str, step: re.Match[str]) -> SourceError:
    hint = f"Show {name} in a separate cell to see its contents."
    if step["attribute"] is not None:
        return SourceError(f"{name} has no attribute {step['attribute']!r}.", hint)
    if step["key"] is not None:
        return SourceError(f"{name} has no item {step['key']}.", hint)
    size = f", which has {len(value)}" if isinstance(value, Sequence) else ""
    return SourceError(f"There is no item {step['index']} in {name}{size}.", f"Items are counted from 0. {hint}")


def _usable(value: object) -> object | None:
    """Return the readable part of a variable's value, or None; the reader checks its shape and contents."""
    if isinstance(value, str):
        path = None if as_link(value) else _existing(value)
        return as_link(value) or path or (value if from_base64(value) is not None else None)
    if is_array(value):
        dimensions = len(getattr(value, "shape", ()))
        return value if 1 < dimensions <= _MAX_DIMENSIONS else None
    if isinstance(value, os.PathLike):
        return value if _existing(os.fspath(value)) is not None else None
    is_one = extract_stream(value) is not None or is_image_like(value) or can_be_bundled(value)
    return value if is_one or (isinstance(value, bytes) and from_base64(value) is not None) else None


def _existing(text: str | bytes) -> Path | None:
    try:
        path = local_path(os.fsdecode(text))
        return path if text and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # not a possible file name
        return None


def kind_of(value: object) -> str:
    """Return the type of a value with its article: "an int", "None"."""
    if isinstance(value, os.PathLike):
        return "the path of a file that does not exist"
    if value is None:
        return "None"
    label = type(value).__name__
    return f"{'an' if label[0].lower() in 'aeio' else 'a'} {label}"


def _what_to_name(text: str, value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value) and is_image_like(value[0]):
        return f"Name one of its items: {text}[0] to {text}[{len(value) - 1}]."
    if isinstance(value, dict) and (keys := [key for key, item in value.items() if is_image_like(item)]):
        shown = ", ".join(f"{text}[{key!r}]" for key in keys[:_SUGGESTIONS]).replace("'", '"')
        return f"Name one of its items: {shown}."
    if isinstance(value, str):
        return "A text must be the path of a file, a URL or a data URI."
    return "Give a path, a URL, or a variable that holds an image."


def _suggest(text: str, namespace: Mapping[str, object]) -> str:
    """Return a hint with similar names if `text` is a plain name, else with the available images."""
    variables = [name for name, value in namespace.items() if name[:1] != "_" and is_image_like(value)]
    folder, files = _images_beside(text)
    near = [*closest(text, variables), *(_typed(folder / name) for name in closest(Path(text).name, files))]
    suffix = Path(text).suffix.lower()
    is_plain = not _CODE.search(text) and (not suffix or suffix in IMAGE_SUFFIXES)
    if near and is_plain:
        return f"Did you mean {any_of(near)}?"
    some = variables[-_SUGGESTIONS:] + [_typed(folder / name) for name in files[:_SUGGESTIONS]]
    available = f" Images here: {', '.join(some)}." if some else ""
    return f"Give a path, a URL, or a variable that holds an image.{available}"


def _typed(path: Path) -> str:
    """Return a path as it is written after a flag."""
    text = str(path)
    return f'"{text}"' if any(character.isspace() for character in text) and '"' not in text else text


def _images_beside(text: str) -> tuple[Path, list[str]]:
    """Return the folder of the path `text`, and the names of its image files."""
    try:
        folder = Path(text).expanduser().parent
        with os.scandir(folder) as entries:
            names = [entry.name for entry, _ in zip(entries, range(_FILES_LOOKED_AT), strict=False)]
    except (OSError, ValueError, RuntimeError):
        return Path(), []
    return folder, sorted(name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES)
