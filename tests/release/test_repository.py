"""What holds the repository together: no secrets in it, hooks and workflows that run what a contributor runs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from release import scan_secrets

import blockrun_magic
from harness import ROOT

MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
KEY = "0x" + "ab" * 32
"""Thirty-two bytes that are nobody's key."""


def of_yaml(path: Path) -> Any:
    """Return what a YAML file says."""
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize(
    "planted",
    [
        f"key = '{KEY}'",
        f"  {KEY[2:]}",
        "0x" + "ab" * 65,
        "eyJ4NDAy" + "VmVyc2lvbiI6MiwiZXJyb3IiOiJQQVlNRU5ULVNJR05BVFVSRSBoZWFkZXIi",
        "BLOCKRUN_API_KEY=brk_" + "live_0123456789abcdef",
        "-----BEGIN EC " + "PRIVATE KEY-----",
        "ghp_" + "a1" * 18,
        "3" * 87,
    ],
)
def test_a_secret_is_found_wherever_it_stands(tmp_path: Path, planted: str) -> None:
    """The scan ends with 1 and names the line, and does not repeat the secret."""
    file = tmp_path / "note.txt"
    file.write_text(f"first line\n{planted}\n", "utf-8")
    command = [sys.executable, Path(scan_secrets.__file__), file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert 1 == done.returncode
    assert "note.txt, line 2: " in done.stdout
    assert planted not in done.stdout


def test_what_is_public_is_no_secret() -> None:
    """A digest, a transaction, and the pixels of a picture are not."""
    public = f'sha256:{KEY[2:]}\ntransaction  {KEY}\n<td>transaction</td><td>{KEY}</td>\n"image/png": "{"A1" * 60}"'

    assert [] == list(scan_secrets.secrets_in(public))


def test_the_hooks_run_what_make_lint_runs() -> None:
    """Each tool of `make lint` is a hook, by its program in .venv; the files that it names exist."""
    [hooks] = [repo["hooks"] for repo in of_yaml(ROOT / ".pre-commit-config.yaml")["repos"]]
    entries = " ".join(hook["entry"] for hook in hooks)
    [lint] = re.findall(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    tools = [line.split()[0].removeprefix("$(BIN)/") for line in lint.splitlines()]

    assert {"ruff", "codespell", "python"} == set(tools)
    for line in lint.splitlines():
        assert line.strip().removeprefix("$(BIN)/").replace(" --check", "") in entries
    for file in re.findall(r"tests/\w+\.py", entries):
        assert (ROOT / file).is_file()
    subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config", ROOT / ".pre-commit-config.yaml"], check=True
    )


def test_the_workflow_calls_targets_of_make() -> None:
    """CI elsewhere runs the commands of a contributor, on each Python that we say we support."""
    jobs = of_yaml(ROOT / ".github" / "workflows" / "test.yml")["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    steps = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    commands = [row["command"] for row in matrix["include"]]
    for command in [*commands, *steps]:
        if "matrix.command" not in command:
            assert f"\n{command.split()[1]}:" in MAKEFILE

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    assert set(named) <= set(matrix["python"])
    assert ["ubuntu-latest", "macos-latest", "windows-latest"] == matrix["os"]


def test_issue_forms_ask_for_something() -> None:
    """Each form has a name, a description and a field that has to be filled in."""
    forms = [of_yaml(path) for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]

    assert 3 == len(forms)
    for form in forms:
        assert form["name"]
        assert form["description"]
        assert any(field.get("validations", {}).get("required") for field in form["body"])


def test_the_version_stands_in_one_place() -> None:
    """It is that of pyproject.toml everywhere; no other file says it."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    saying = [
        path.name for path in (ROOT / "blockrun_magic").rglob("*.py") if f'"{version}"' in path.read_text("utf-8")
    ]

    assert version == blockrun_magic.__version__
    assert [] == saying


def test_the_changelog_keeps_its_form() -> None:
    """Versions are headings with dates, but for what is not released; kinds of change are those of Keep a Changelog."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))

    assert "[Unreleased]" == versions[0]
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", version) for version in versions[1:])
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
