"""The wheel: built, installed into a new environment, and used without the source."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from harness import ROOT
from harness.kernel import clean_environ

SCRIPT = """
import blockrun_magic
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "blockrun_magic")
shell.run_line_magic("blockrun", "use practice")
shell.run_cell_magic("imagegen", "--model cogview --size 512x512 --as fox --quiet", "a red fox in fresh snow")
fox = shell.user_ns["fox"]
shell.run_cell_magic("img2img", "--image fox --quiet", "at night")
print(blockrun_magic.__version__, fox.size, blockrun_magic.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel built from this source."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True
    )
    [built] = folder.glob("*.whl")
    return built


def test_it_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """The wheel contains exactly the files of the package."""
    with zipfile.ZipFile(wheel) as packed:
        inside = {name for name in packed.namelist() if ".dist-info/" not in name}
    package = ROOT / "blockrun_magic"
    files = [path.relative_to(ROOT) for path in package.rglob("*") if path.is_file()]
    ours = {path.as_posix() for path in files if not any(part.startswith((".", "__pyc")) for part in path.parts)}

    assert ours == inside


def test_it_makes_a_picture_where_nothing_else_is_installed(wheel: Path, tmp_path: Path) -> None:
    """In a new environment with only the required dependencies, the first cells of the README work."""
    venv.create(tmp_path / "venv", with_pip=True)
    scripts = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    subprocess.run([scripts / "python", "-m", "pip", "--quiet", "install", wheel], check=True)
    done = subprocess.run(
        [scripts / "python", "-c", SCRIPT],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=clean_environ(tmp_path),
        check=False,
    )
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]

    assert "" == done.stderr
    assert 0 == done.returncode
    assert f"{version} (512, 512) {tmp_path}" in done.stdout
