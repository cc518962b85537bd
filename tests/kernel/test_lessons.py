"""Lessons: a distributed notebook shows its images for $0, offline, without a wallet."""

from __future__ import annotations

import base64
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import nbformat
import pytest

from blockrun_magic.errors import LessonError
from blockrun_magic.practice.server.server import PracticeServer
from blockrun_magic.studio.lessons.lesson import lessons_in, open_lesson
from harness import PATIENCE, ROOT
from harness.kernel import Cell, Kernel, made, paid_to, running_kernel

FIRST = nbformat.read(ROOT / "notebooks" / "01-first-picture.ipynb", as_version=4)
FOX = "%%imagegen --model cogview --size 512x512 --as fox\na fox in the snow"
NIGHT = "%img2img --image fox --model gpt-image at night"
OFFLINE = """
import socket
def refuse(*_): raise OSError("the network is cut off")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""
CUT_OFF = """
import socket
connect = socket.socket.connect
def only_here(self, address):
    if isinstance(address, tuple) and address[0] != "127.0.0.1": raise OSError("the network is cut off")
    return connect(self, address)
socket.socket.connect = only_here
"""
KEY = "0x" + "3d" * 32  # a publicly known test key


@pytest.fixture(scope="module")
def handed_out(tmp_path_factory: pytest.TempPathFactory, gateway: PracticeServer) -> Path:
    """Return the ZIP file of a lesson with two images."""
    desk = tmp_path_factory.mktemp("teacher")
    (desk / "winter.ipynb").write_text(notebook_of(FOX, NIGHT), "utf-8")
    with running_kernel(desk, {"BLOCKRUN_PRACTICE_URL": gateway.url}) as kernel:
        made(kernel, "%load_ext blockrun_magic\n%blockrun use practice")
        made(kernel, FOX)
        made(kernel, NIGHT)
        made(kernel, "fox.save('fox.png')")
        said = made(kernel, "%blockrun lesson export winter.zip")

        assert "winter.ipynb with 2 answers" in said.text
    return desk / "winter.zip"


def notebook_of(*cells: str) -> str:
    """Return the JSON of a notebook with these cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    return str(nbformat.writes(notebook))


@pytest.fixture
def student(tmp_path: Path, handed_out: Path) -> Iterator[Kernel]:
    """Return a kernel with the lesson's ZIP file in a new home folder, without a wallet."""
    shutil.copy(handed_out, tmp_path)
    with running_kernel(tmp_path) as kernel:
        made(kernel, "%load_ext blockrun_magic")
        yield kernel


def shown(cell: Cell) -> bytes:
    """Return the image that a cell shows."""
    [picture] = cell.pictures
    return base64.b64decode(picture["data"]["image/jpeg"])


def pictures(cell: Cell) -> list[str]:
    """Return every image that a cell shows, as encoded in the notebook."""
    return [
        content for output in cell.pictures for kind, content in output["data"].items() if kind.startswith("image/")
    ]


def test_an_opened_lesson_answers_offline_and_costs_nothing(student: Kernel, tmp_path: Path, handed_out: Path) -> None:
    """Offline, the cells show the lesson's images, also for an edit, and the ledger records no payment."""
    shutil.copy(handed_out.with_name("fox.png"), tmp_path / "its.png")
    student.run(OFFLINE)
    opened = made(student, "%blockrun lesson open winter.zip")
    first, second = made(student, FOX), made(student, NIGHT)
    same = student.run("from PIL import Image, ImageChops\nImageChops.difference(fox, Image.open('its.png')).getbbox()")

    assert "2 answers, each for $0" in opened.text
    assert "$0.00: from the lesson winter" in first.text
    assert "$0.00: from the lesson winter" in second.text
    assert ("ok", "") == (same.status, same.text)
    assert "total         0  $0.00" in made(student, "%blockrun spend").text
    assert (tmp_path / "winter.ipynb").exists()


def test_a_folder_beside_the_notebook_is_enough(tmp_path: Path, handed_out: Path) -> None:
    """After another program unpacks the ZIP file, the cells show the lesson's images offline."""
    with zipfile.ZipFile(handed_out) as packed:
        packed.extractall(tmp_path)
    with running_kernel(tmp_path) as kernel:
        kernel.run(OFFLINE)
        made(kernel, "%load_ext blockrun_magic")
        cell = made(kernel, FOX)
        which = made(kernel, "%blockrun lesson")

    assert "from the lesson winter" in cell.text
    assert "winter: 2 answers" in which.text


def test_what_the_teacher_did_not_run_is_practice(student: Kernel) -> None:
    """Other prompts and other takes are made with play money."""
    made(student, "%blockrun lesson open winter.zip")
    other = made(student, "%imagegen --model cogview --size 512x512 a hare in the snow")
    fresh = made(student, FOX.replace("--as", "--fresh --as"))

    assert "play money" in other.text
    assert "play money" in fresh.text
    assert "lesson" not in fresh.text


def test_a_strict_lesson_makes_nothing_else(tmp_path: Path, gateway: PracticeServer) -> None:
    """In a strict lesson, a cell without a stored image is an error, and nothing is paid."""
    (tmp_path / "n.ipynb").write_text(notebook_of(FOX), "utf-8")
    with running_kernel(tmp_path, {"BLOCKRUN_PRACTICE_URL": gateway.url}) as kernel:
        made(kernel, "%load_ext blockrun_magic\n%blockrun use practice")
        made(kernel, FOX)
        made(kernel, "%blockrun lesson export strict.zip --strict --notebook n.ipynb")
        made(kernel, "%blockrun lesson open strict.zip")
        before = paid_to(gateway.url)
        refused = kernel.run("%imagegen a hare in the snow")
        kernel.run("%blockrun lesson close")
        allowed = made(kernel, "%imagegen --model cogview --size 512x512 a hare in the snow")

    assert 2 == len(refused.error)
    assert before + 15_750 == paid_to(gateway.url)
    assert "play money" in allowed.text


def test_the_first_notebook_is_a_lesson(tmp_path_factory: pytest.TempPathFactory, gateway: PracticeServer) -> None:
    """Notebook 01 as a lesson, without a network and a wallet, shows the teacher's images for $0.

    Its only request is for a price, which the practice gateway on this machine answers.
    """
    teacher, home = tmp_path_factory.mktemp("teacher"), tmp_path_factory.mktemp("student")
    code = [cell.source for cell in FIRST.cells if cell.cell_type == "code"]
    shutil.copy(ROOT / "notebooks" / "01-first-picture.ipynb", teacher)
    with running_kernel(teacher, {"BLOCKRUN_PRACTICE_URL": gateway.url}) as kernel:
        theirs = [made(kernel, source) for source in code]
        made(kernel, "%blockrun lesson export one.zip")
    shutil.copy(teacher / "one.zip", home)
    before = httpx.get(f"{gateway.url}/practice/ledger", timeout=PATIENCE).json()
    with running_kernel(home, {"BLOCKRUN_PRACTICE_URL": gateway.url}) as kernel:
        made(kernel, CUT_OFF)
        made(kernel, "%load_ext blockrun_magic\n%blockrun lesson open one.zip")
        ours = [made(kernel, source) for source in code]
    after = httpx.get(f"{gateway.url}/practice/ledger", timeout=PATIENCE).json()

    assert (before["total"], before["paid_requests"]) == (after["total"], after["paid_requests"])
    assert before["requests"] + 1 == after["requests"]
    assert [pictures(cell) for cell in theirs] == [pictures(cell) for cell in ours]
    assert 5 == sum("from the lesson one" in cell.text for cell in ours)


def test_no_key_leaves_in_a_lesson(tmp_path: Path, gateway: PracticeServer) -> None:
    """A notebook with the user's key in a cell is not packed."""
    (tmp_path / "n.ipynb").write_text(notebook_of(FOX, f"key = '{KEY}'"), "utf-8")
    with running_kernel(tmp_path, {"BLOCKRUN_PRACTICE_URL": gateway.url, "BLOCKRUN_WALLET_KEY": KEY}) as kernel:
        made(kernel, "%load_ext blockrun_magic\n%blockrun use practice")
        made(kernel, FOX)
        refused = kernel.run("%blockrun lesson export n.zip --notebook n.ipynb")

    assert 2 == len(refused.error)
    assert not (tmp_path / "n.zip").exists()


def test_a_lesson_holds_no_payment(handed_out: Path) -> None:
    """The files contain neither signatures nor payment headers nor the payer."""
    with zipfile.ZipFile(handed_out) as packed:
        index = json.loads(packed.read("winter.pictures/lesson.json"))
        whole = b"".join(packed.read(name) for name in packed.namelist())

    assert {"amount", "realm", "gateway", "network", "transaction", "bought_at", "settled", "estimated"} == set(
        index["answers"][0]["receipt"]
    )
    assert all(word not in whole.lower() for word in (b"signature", b"payment-", b"validbefore", b"payer"))


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil", "a.pictures/../../x.png", "a.pictures/a.py", "C:x.ipynb"])
def test_a_zip_that_reaches_elsewhere_is_not_unpacked(student: Kernel, tmp_path: Path, name: str) -> None:
    """A ZIP file with an entry outside the lesson is refused, and nothing is written."""
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as packed:
        packed.writestr(name, b"x")

    def written() -> list[Path]:
        """Return the files here, without those of IPython and the ledger."""
        return sorted(path for path in tmp_path.rglob("*") if {".ipython", ".blockrun"}.isdisjoint(path.parts))

    before = written()
    refused = student.run("%blockrun lesson open evil.zip")

    assert 2 == len(refused.error)
    assert before == written()


def test_a_damaged_lesson_says_so(tmp_path: Path, handed_out: Path) -> None:
    """A damaged image is not shown, and a malformed index raises LessonError."""
    with zipfile.ZipFile(handed_out) as packed:
        packed.extractall(tmp_path)
    [lesson] = lessons_in(tmp_path)
    folder = tmp_path / "winter.pictures"
    for path in folder.glob("*.png"):
        path.write_bytes(path.read_bytes()[:-1])
    digest, take = next(iter(lesson._answers))

    with pytest.raises(Exception, match="winter"):
        lesson.answer(digest, take)
    (folder / "lesson.json").write_text('{"format": 9}')
    with pytest.raises(LessonError):
        open_lesson(folder)
    (folder / "lesson.json").write_text('{"format": 1, "name": "x", "missing": "error", "answers": [{}]}')
    with pytest.raises(LessonError):
        open_lesson(folder)
    with pytest.raises(LessonError):
        open_lesson(tmp_path / "nowhere")
