"""Lessons: archives are unpacked within limits, all or nothing; notebooks with secrets are not packed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blockrun_magic.errors import BlockrunError, LessonError, StoreError
from blockrun_magic.payments.ledger.records import StoredImage
from blockrun_magic.payments.secrets import Secret
from blockrun_magic.studio.lessons import archive as archive_module
from blockrun_magic.studio.lessons.archive import pack_lesson, unpack_lesson
from blockrun_magic.studio.lessons.lesson import INDEX, open_lesson
from blockrun_magic.studio.lessons.secret_scan import check_no_secrets, secrets_of_user
from blockrun_magic.studio.results.result import ImageResult
from fakes.gateway import picture_for

IMAGE = picture_for("a fox")
FILE = hashlib.sha256(IMAGE).hexdigest()
DIGEST = "sha256:" + "ab" * 32
NOTEBOOK: dict[str, Any] = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def entry(**changed: Any) -> dict[str, Any]:
    """Return an answer of a lesson."""
    receipt = {"amount": 1, "realm": "real", "gateway": "base", "network": None, "transaction": None}
    request = {"prompt": "p", "model": "m", "size": "1x1", "quality": None, "n": 1, "image": [], "mask": None}
    whole = {
        "id": "abc",
        "request_digest": DIGEST,
        "take": 1,
        "request": request | {"endpoint": "/v1/images/generations"},
        "seconds": 1.0,
        "receipt": receipt | {"bought_at": 1.8e9, "settled": True, "estimated": False},
        "pictures": [{"file": FILE, "media_type": "image/png", "width": 24, "height": 16, "revised_prompt": None}],
    }
    return whole | changed


def index(*answers: Any, **changed: Any) -> bytes:
    """Return the index of a lesson."""
    content = {"format": 1, "name": "fox", "missing": "practice", "answers": list(answers or [entry()])}
    return json.dumps(content | changed).encode()


def lesson(**changed: bytes) -> dict[str, bytes]:
    """Return the entries of an archive."""
    return {
        "fox.ipynb": json.dumps(NOTEBOOK).encode(),
        f"fox.pictures/{FILE}.png": IMAGE,
        f"fox.pictures/{INDEX}": index(),
        **changed,
    }


def packed(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Return an archive with these entries."""
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return path


def listing(folder: Path) -> set[str]:
    """Return every path below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_lesson_is_unpacked_beside_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unpacked lesson works after a change of the working directory; unpacking it again changes nothing."""
    packed(tmp_path / "fox.zip", lesson())
    monkeypatch.chdir(tmp_path)
    folder, notes = unpack_lesson(Path("fox.zip"))
    again = unpack_lesson(Path("fox.zip"))
    opened = open_lesson(Path(folder.name))
    monkeypatch.chdir("/")

    assert (24, 16) == opened.answer(DIGEST, 1).image.size
    assert folder.is_absolute()
    assert 1 == len(notes) == len(again[1])


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    """A notebook that the student has changed is not overwritten, and a note says so."""
    packed(tmp_path / "fox.zip", lesson())
    (tmp_path / "fox.ipynb").write_text("mine")
    _, notes = unpack_lesson(tmp_path / "fox.zip")

    assert "mine" == (tmp_path / "fox.ipynb").read_text()
    assert 2 == len(notes)


def _encrypted(path: Path) -> None:
    packed(path, lesson())
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := data.find(mark, at + 1)) >= 0:
            data[at + offset] |= 1
    path.write_bytes(data)


def _damaged(path: Path) -> None:
    packed(path, lesson())
    data = bytearray(path.read_bytes())
    at = data.find(f"{FILE}.png".encode()) + 70
    data[at : at + 20] = b"\xff" * 20
    path.write_bytes(data)


def _method(path: Path) -> None:
    packed(path, lesson(), zipfile.ZIP_LZMA)


def _lying_size(path: Path) -> None:
    packed(path, lesson(**{f"fox.pictures/{'cd' * 32}.png": bytes(archive_module.MAX_IMAGE + 1)}))


def _with(**changed: bytes) -> Callable[[Path], object]:
    return lambda path: packed(path, lesson(**changed))


BAD: dict[str, Callable[[Path], object]] = {
    "encrypted": _encrypted,
    "damaged deflate": _damaged,
    "unknown method": _method,
    "huge": _lying_size,
    "no zip": lambda path: path.write_bytes(b"PK\x03\x04 no"),
    "empty": lambda path: path.write_bytes(b""),
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "outside": _with(**{"../fox.ipynb": b"{}"}),
    "deeper": _with(**{"a/b/c.png": b""}),
    "not its hash": _with(**{f"fox.pictures/{'cd' * 32}.png": IMAGE}),
    "no image": _with(**{f"fox.pictures/{hashlib.sha256(b'x').hexdigest()}.png": b"x"}),
    "cut image": _with(**{f"fox.pictures/{hashlib.sha256(IMAGE[:60]).hexdigest()}.png": IMAGE[:60]}),
    "no notebook": _with(**{"fox.ipynb": b"[]"}),
    "deep notebook": _with(**{"fox.ipynb": b"[" * 50_000}),
    "no index": lambda path: packed(path, {"fox.ipynb": json.dumps(NOTEBOOK).encode()}),
    "cut index": _with(**{f"fox.pictures/{INDEX}": b'{"format": 1, "answers": ['}),
    "mixed takes": _with(**{f"fox.pictures/{INDEX}": index(entry(), entry(take="b"))}),
    "no images": _with(**{f"fox.pictures/{INDEX}": index(entry(pictures=[]))}),
    "two lessons": _with(**{f"hen.pictures/{INDEX}": index()}),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_archive_leaves_nothing_behind(tmp_path: Path, kind: str) -> None:
    """A bad archive raises LessonError and leaves no files."""
    path = tmp_path / "fox.zip"
    BAD[kind](path)
    before = listing(tmp_path)

    with pytest.raises(LessonError):
        unpack_lesson(path)

    assert before == listing(tmp_path)


def test_an_entry_may_not_lie_about_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A total size above the limit is found while unpacking, and no files remain."""
    packed(tmp_path / "fox.zip", lesson())
    before = listing(tmp_path)
    monkeypatch.setattr(archive_module, "_MAX_TOTAL", len(IMAGE))
    with pytest.raises(LessonError):
        unpack_lesson(tmp_path / "fox.zip")

    assert before == listing(tmp_path)


WRONG = {
    "a take of text": entry(take="b"),
    "a take of zero": entry(take=0),
    "a true take": entry(take=True),
    "a digest that is a number": entry(request_digest=1),
    "a digest that is a list": entry(request_digest=[]),
    "no images": entry(pictures=[]),
    "an image of text": entry(pictures=["x"]),
    "seconds of text": entry(seconds="1"),
    "seconds without end": entry(seconds=float("inf")),
    "an amount of text": entry(receipt=entry()["receipt"] | {"amount": "1"}),
    "a receipt without a date": entry(receipt=entry()["receipt"] | {"bought_at": None}),
    "no request": entry(request={}),
    "n of text": entry(request=entry()["request"] | {"n": "4"}),
    "a negative width": entry(pictures=[entry()["pictures"][0] | {"width": -1}]),
    "a field more": entry(pictures=[entry()["pictures"][0] | {"x": 1}]),
    "not an object": 7,
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_damaged_index_is_two_lines(tmp_path: Path, wrong: str) -> None:
    """Every field of the index is checked when the lesson is opened."""
    (tmp_path / INDEX).write_bytes(index(entry(), WRONG[wrong]))

    with pytest.raises(LessonError):
        open_lesson(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"7", b"[" * 50_000, b'{"format": 1, "answers": ['])
def test_an_index_that_is_none_is_two_lines(tmp_path: Path, content: bytes) -> None:
    """An empty, truncated or malformed index raises LessonError."""
    (tmp_path / INDEX).write_bytes(content)

    with pytest.raises(LessonError):
        open_lesson(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="devices and pipes are POSIX's")
def test_devices_and_pipes_are_not_read(tmp_path: Path) -> None:
    """A link to /dev/zero and a named pipe are refused without reading."""
    (tmp_path / INDEX).symlink_to("/dev/zero")
    with pytest.raises(LessonError):
        open_lesson(tmp_path)
    (tmp_path / INDEX).unlink()
    (tmp_path / INDEX).write_bytes(index())
    os.mkfifo(tmp_path / f"{FILE}.png")

    with pytest.raises(StoreError):
        open_lesson(tmp_path).answer(DIGEST, 1)


def test_packing_never_overwrites(tmp_path: Path) -> None:
    """An existing archive is not overwritten, and no other files remain."""
    (tmp_path / "fox.zip").write_text("mine")
    (tmp_path / "fox.ipynb").write_text(json.dumps(NOTEBOOK))
    results = [answered(tmp_path)]
    before = listing(tmp_path)
    with pytest.raises(LessonError):
        pack_lesson(tmp_path / "fox.zip", tmp_path / "fox.ipynb", results, strict=False)

    assert before == listing(tmp_path)
    assert "mine" == (tmp_path / "fox.zip").read_text()


# -- secrets

KEY = bytes(range(200, 232))
HEX = KEY.hex()
SOLANA = "5" + "Jq8vMn3RtYb2" * 7
ENVELOPE = json.dumps({"x402Version": 2, "payload": {"signature": "0x" + "ab" * 65}})
ENVELOPE_TEXT = base64.b64encode(ENVELOPE.encode()).decode()
SPELLINGS = {
    "hex": f"key = '{HEX}'",
    "capitals": f"key = '0x{HEX.upper()}'",
    "spaced hex": " ".join(HEX[i : i + 2] for i in range(0, 64, 2)),
    "colons": ":".join(HEX[i : i + 2] for i in range(0, 64, 2)),
    "lines": "\n".join(HEX[i : i + 16] for i in range(0, 64, 16)),
    "escapes": "".join(f"\\x{byte:02x}" for byte in KEY),
    "base64": base64.b64encode(KEY).decode(),
    "url base64": base64.urlsafe_b64encode(KEY).decode(),
    "base64 of the text": base64.b64encode(HEX.encode()).decode(),
    "a number": str(int.from_bytes(KEY, "big")),
    "a list": repr(list(KEY)),
    "bytes": repr(KEY),
}
LOOKS = {
    "another key": "0x" + "1f" * 32,
    "a key after a stop": "key is " + "1f" * 32 + ".",
    "a header in source": f'headers = {{"PAYMENT-SIGNATURE": "{ENVELOPE_TEXT}"}}',
    "a printed dict": repr({"X-PAYMENT": ENVELOPE_TEXT}),
    "printed JSON": json.dumps({"headers": json.dumps({"PAYMENT-SIGNATURE": ENVELOPE_TEXT})}),
    "curl": f"!curl -H 'payment-signature: {ENVELOPE_TEXT}' https://blockrun.ai",
    "an envelope alone": ENVELOPE_TEXT,
    "an API key": "client = Client('brk_live_0123456789abcdef0123')",
}


def notebook(folder: Path, source: str = "", output: Any = "", mime: str = "text/plain") -> Path:
    """Return a notebook with one cell and its output."""
    outputs = [{"output_type": "display_data", "data": {mime: output}, "metadata": {}}]
    cell = {"cell_type": "code", "source": source.splitlines(keepends=True), "outputs": outputs, "metadata": {}}
    path = folder / "fox.ipynb"
    path.write_text(json.dumps(NOTEBOOK | {"cells": [cell]}), "utf-8")
    return path


@pytest.mark.parametrize("place", ["source", "output", "JSON output"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_key_is_found_in_every_spelling(tmp_path: Path, spelling: str, place: str) -> None:
    """The key is found in a cell or an output, in any encoding, and the error does not show it."""
    text = SPELLINGS[spelling]
    path = {
        "source": lambda: notebook(tmp_path, f"x = 1\n{text}\n"),
        "output": lambda: notebook(tmp_path, output=f"it is {text}"),
        "JSON output": lambda: notebook(tmp_path, output={"deep": [{"key": text}]}, mime="application/json"),
    }[place]()

    with pytest.raises(LessonError) as caught:
        check_no_secrets(path, [Secret("0x" + HEX)], ())

    assert HEX not in str(caught.value)


@pytest.mark.parametrize("kind", LOOKS)
def test_what_looks_like_a_secret_is_found(tmp_path: Path, kind: str) -> None:
    """Unknown keys of 64 hex digits, payment headers and API keys are found, too."""
    with pytest.raises(LessonError):
        check_no_secrets(notebook(tmp_path, LOOKS[kind]), (), ())
    with pytest.raises(LessonError):
        check_no_secrets(notebook(tmp_path, output=LOOKS[kind]), (), ())


@pytest.mark.parametrize(
    "variable",
    [
        "BLOCKRUN_WALLET_KEY",
        "BASE_CHAIN_WALLET_KEY",
        "SOLANA_WALLET_KEY",
        "BLOCKRUN_API_KEY",
        "BLOCKRUN_WALLET_PASSPHRASE",
    ],
)
def test_every_variable_is_a_source(tmp_path: Path, variable: str) -> None:
    """The secrets of all variables are checked, also of one that another variable overrides."""
    value = "correct horse battery" if "PASSPHRASE" in variable else SOLANA
    environ = {"BLOCKRUN_WALLET_KEY": "0x" + HEX, variable: value}
    found = secrets_of_user(environ, tmp_path, tmp_path / ".blockrun")

    with pytest.raises(LessonError):
        check_no_secrets(notebook(tmp_path, f"x = {value!r}"), found, ())


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (".blockrun/.session", "0x" + HEX),
        (".blockrun/wallet.key", HEX),
        (".blockrun/.solana-session", repr(list(KEY + KEY))),
        (".blockrun/.solana-session", SOLANA),
        (".openclaw/blockrun/wallet.key", HEX),
        (".other/wallet.json", json.dumps({"privateKey": "0x" + HEX})),
    ],
)
def test_every_key_file_is_a_source(tmp_path: Path, file: str, content: str) -> None:
    """The key files of this package, BlockRun's SDKs and other programs are checked."""
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(content)
    found = secrets_of_user({}, tmp_path, tmp_path / ".blockrun")
    shown = SOLANA if content == SOLANA else base64.b64encode(KEY + KEY if "[" in content else KEY).decode()

    with pytest.raises(LessonError):
        check_no_secrets(notebook(tmp_path, output=shown), found, ())


def test_what_a_lesson_shows_is_no_secret(tmp_path: Path) -> None:
    """Transactions, digests, file names and images are not secrets."""
    transaction = "0x" + "9c" * 32
    text = f"Paid (transaction 0x{'7d' * 32}), also {transaction}; sha256:{'3e' * 32}; {'5f' * 32}.png"
    path = notebook(tmp_path, "%%imagegen\na cat", output=text)
    check_no_secrets(path, [Secret("0x" + HEX)], [transaction])
    check_no_secrets(notebook(tmp_path, output=base64.b64encode(IMAGE * 50).decode(), mime="image/png"), (), ())


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff\xfe", b"[" * 60_000])
def test_a_notebook_that_is_none_is_two_lines(tmp_path: Path, content: bytes) -> None:
    """A malformed notebook raises BlockrunError."""
    (tmp_path / "x.ipynb").write_bytes(content)
    with pytest.raises(BlockrunError):
        check_no_secrets(tmp_path / "x.ipynb", (), ())


def answered(folder: Path) -> ImageResult:
    """Return a result whose image is in a lesson in `folder`."""
    for name, content in lesson().items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return open_lesson(folder / "fox.pictures").answer(DIGEST, 1)


def test_images_are_packed_as_they_are(tmp_path: Path) -> None:
    """Images are packed once and without compression; the other files are compressed."""
    result = answered(tmp_path)
    count = pack_lesson(tmp_path / "out.zip", tmp_path / "fox.ipynb", [result, result], strict=True)

    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        methods = {Path(entry.filename).suffix: entry.compress_type for entry in archive.infolist()}
    assert {".ipynb": zipfile.ZIP_DEFLATED, ".png": zipfile.ZIP_STORED, ".json": zipfile.ZIP_DEFLATED} == methods
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out.zip").rename(tmp_path / "elsewhere" / "out.zip")
    opened = open_lesson(unpack_lesson(tmp_path / "elsewhere" / "out.zip")[0])
    assert (1, True, 1) == (count, opened.strict, len(opened))
    assert IMAGE == opened.answer(DIGEST, 1).files[0].read_bytes()


def test_one_image_is_in_memory_at_a_time(tmp_path: Path) -> None:
    """Packing twenty images of one megabyte needs less than 1.5 megabytes of memory."""
    megabyte, result = 1 << 20, answered(tmp_path)
    results = []
    for number in range(20):
        data = IMAGE + bytes([number]) * megabyte
        name = hashlib.sha256(data).hexdigest()
        path = tmp_path / f"{name}.png"
        path.write_bytes(data)
        results.append(replace(result, stored=[StoredImage(name, "image/png", 24, 16)], files=[path]))
    tracemalloc.start()
    pack_lesson(tmp_path / "out.zip", tmp_path / "fox.ipynb", results, strict=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 1.5 * megabyte


@pytest.mark.parametrize("content", [b"not an image", IMAGE[:-1], None])
def test_a_damaged_image_is_not_packed(tmp_path: Path, content: bytes | None) -> None:
    """A damaged or missing image is refused, and no files remain."""
    result = answered(tmp_path)
    path = tmp_path / "fox.pictures" / f"{FILE}.png"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    before = listing(tmp_path)
    with pytest.raises(LessonError):
        pack_lesson(tmp_path / "out.zip", tmp_path / "fox.ipynb", [result], strict=False)

    assert before == listing(tmp_path)
