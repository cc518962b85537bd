"""`python -m blockrun_magic serve` as a process, and the examples of the documents, unchanged."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from blockrun_magic.practice.server.server import PracticeServer
from harness import PATIENCE, ROOT
from harness.kernel import Kernel, clean_environ, made

SEEDS = ROOT.parent / "shared" / "reference" / "seeds"
"""The project's source documents; if they exist beside the repository, their examples run, too."""
_CURL = re.compile(
    r"""curl\ (?:-s\ )?-X\ POST\ http://localhost:8402\S+(?:(?!curl\ ).)*?-d\ (?:'[^']*'|"(?:[^"\\]|\\.)*")""",
    re.DOTALL | re.VERBOSE,
)
_PYTHON = re.compile(r"```python\s(.*?)```", re.DOTALL)


@contextmanager
def served(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Yield a server process and its ready line, or {} without one."""
    command = [sys.executable, "-m", "blockrun_magic", "serve", "--gateway", "practice", "--port", "0", *options]
    with (
        (home / "stderr").open("w") as errors,
        subprocess.Popen(
            [*command, "--home", str(home / "home")],
            env=clean_environ(home),
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline() or "{}")
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_ready_line_and_the_end(tmp_path: Path, number: signal.Signals) -> None:
    """A ready server prints one JSON line and creates a private folder; a signal ends it with status 0."""
    with served(tmp_path) as (process, ready):
        assert {"url", "api_key", "health"} == set(ready)
        assert "ok" == httpx.get(ready["health"], timeout=PATIENCE).json()["status"]
        for status, headers in ((401, {}), (200, {"api-key": ready["api_key"]})):
            assert status == httpx.get(f"{ready['url']}/models", headers=headers, timeout=PATIENCE).status_code
        process.send_signal(number)

        assert 0 == process.wait(PATIENCE)
    assert (tmp_path / "home" / "magic" / "ledger.sqlite").is_file()
    assert ready["api_key"] not in (tmp_path / "stderr").read_text()
    if os.name == "posix":
        assert 0o700 == stat.S_IMODE((tmp_path / "home" / "magic").stat().st_mode)


def test_a_key_in_a_file(tmp_path: Path) -> None:
    """The key file is created once and readable by its owner only; a file readable by others is refused."""
    file = tmp_path / "key"
    with served(tmp_path, "--key-file", str(file)) as (_, first):
        assert first["api_key"] == file.read_text().strip()
        assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    with served(tmp_path, "--key-file", str(file)) as (_, second):
        assert first["api_key"] == second["api_key"]
    file.chmod(0o644)
    with served(tmp_path, "--key-file", str(file)) as (process, nothing):
        assert (1, {}) == (process.wait(PATIENCE), nothing)


@pytest.mark.parametrize(
    "options",
    [
        ("--port", "99999"),
        ("--host", "203.0.113.7"),
        ("--host", "0.0.0.0", "--no-key"),  # noqa: S104
        ("--gateway", "nowhere"),
        ("--log", "/nowhere/at/all"),
        ("--key-file", "/dev/zero"),
    ],
)
def test_what_cannot_be_served(tmp_path: Path, options: tuple[str, ...]) -> None:
    """The error has two lines, and the exit status is 1."""
    with served(tmp_path, *options) as (process, ready):
        assert (1, {}) == (process.wait(PATIENCE), ready)
    assert 2 == len((tmp_path / "stderr").read_text().splitlines())


# -- examples, unchanged


def _documents() -> list[str]:
    files = [ROOT / "docs" / "local-endpoint.md", *sorted(SEEDS.glob("*.txt"))]
    return [path.read_text("utf-8") for path in files]


def _shell_examples() -> list[str]:
    """Return every curl command for ClawRouter's port, also from documents without line breaks."""
    return [re.sub(r"\\ +(?=-)", "", found[0]) for text in _documents() for found in _CURL.finditer(text)]


def _python_examples() -> list[str]:
    """Return the Python examples for ClawRouter's port, except those without line breaks."""
    examples = [found[1] for text in _documents() for found in _PYTHON.finditer(text)]
    return [example for example in examples if "localhost:8402" in example and "\n" in example.strip()]


@pytest.fixture(scope="module")
def clawrouter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Return a home with photo.png and mask.png, and a server without a key, like ClawRouter."""
    home = tmp_path_factory.mktemp("owner")
    Image.new("RGB", (64, 64), "teal").save(home / "photo.png")
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 64, 32))
    mask.save(home / "mask.png")
    with served(home, "--no-key") as (_, ready):
        assert ready["api_key"] is None
        yield home, ready["url"].removesuffix("/v1")


def _here(example: str, home: Path, origin: str) -> str:
    """Return the example with this server's port, an existing image, and no external URL."""
    photo = base64.b64encode((home / "photo.png").read_bytes()).decode()
    stored = httpx.post(f"{origin}/v1/images/generations", json={"prompt": "a photo"}, timeout=PATIENCE).json()
    return (
        example.replace("http://localhost:8402", origin)
        .replace("data:image/png;base64,iVBOR...", f"data:image/png;base64,{photo}")
        .replace("https://example.com/photo.png", stored["data"][0]["url"])
        .replace("/Users/me/photo.png", str(home / "photo.png"))
    )


@pytest.mark.parametrize("example", _shell_examples())
def test_a_command_of_the_documents(clawrouter: tuple[Path, str], example: str) -> None:
    """The command runs in a shell and prints an image's URL."""
    home, origin = clawrouter
    photo = base64.b64encode((home / "photo.png").read_bytes()).decode()

    done = subprocess.run(
        ["bash", "-c", _here(example, home, origin)],
        env=clean_environ(home, IMAGE_B64=photo),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )

    [image, *_] = json.loads(done.stdout)["data"]
    assert 200 == httpx.get(image["url"], timeout=PATIENCE).status_code


@pytest.mark.parametrize("example", _python_examples())
def test_python_of_the_documents(clawrouter: tuple[Path, str], example: str) -> None:
    """The script runs and prints an image's URL."""
    home, origin = clawrouter

    done = subprocess.run(
        [sys.executable, "-c", _here(example, home, origin)],
        env=clean_environ(home),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )

    url = done.stdout.split()[0]
    assert re.fullmatch(r"http://(localhost|127\.0\.0\.1):\d+/images/[0-9a-f]{64}\.png", url)
    assert 200 == httpx.get(url, timeout=PATIENCE).status_code


def test_the_examples_are_found() -> None:
    """The documents contain examples, so the tests above are not empty."""
    assert len(_shell_examples()) >= 3
    assert len(_python_examples()) >= 1


# -- in a notebook


def test_the_endpoint_of_a_kernel(kernel: Kernel, gateway: PracticeServer) -> None:
    """The kernel has one endpoint, which shares its gateway and purchases with the cells."""
    made(kernel, "%blockrun serve --port 0")
    made(kernel, "import blockrun_magic\nclient = blockrun_magic.openai_client()")
    made(kernel, "answer = client.images.generate(prompt='a lamp', model='google/nano-banana')")

    again = made(kernel, "r = %imagegen --model google/nano-banana a lamp")

    assert "True" == kernel.value("answer.data[0].url.startswith(str(client.base_url).removesuffix('/v1/'))")
    assert "(True, 0)" == kernel.value("(r.receipt.cached, r.cost_micros)")
    assert 1 == len(again.pictures)
    assert "error" == kernel.run("%blockrun serve --port 1").status
    made(kernel, "%blockrun serve stop")
    assert "error" == kernel.run("client.with_options(max_retries=0).models.list()").status
    assert "ok" == kernel.run("blockrun_magic.openai_client().models.list()").status


def test_the_endpoint_of_a_script(tmp_path: Path, gateway: PracticeServer) -> None:
    """In a script, the client has its own server, which ends with the process."""
    home = tmp_path / ".blockrun" / "magic"
    home.mkdir(parents=True)
    (home / "config.toml").write_text('gateway = "practice"\n')
    program = "import blockrun_magic\nclient = blockrun_magic.openai_client()\n"
    program += "print(client.images.generate(prompt='a lamp').data[0].url)"

    done = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environ(tmp_path, BLOCKRUN_PRACTICE_URL=gateway.url),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )

    assert "/images/" in done.stdout
    assert "" == done.stderr
