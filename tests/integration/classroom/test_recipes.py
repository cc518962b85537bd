"""The recipes of the documentation: linters check the files, and our parser checks the command lines."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from blockrun_magic.classroom.cli.credentials import FOLDER, with_credentials
from blockrun_magic.classroom.commands import parser
from blockrun_magic.classroom.hub import HubSettings
from blockrun_magic.classroom.hub_doctor import SUBDOMAINS, check_config
from harness import ROOT
from harness.classroom import run_command

RECIPES = ROOT / "docs" / "recipes"


def unit() -> str:
    """Return the systemd unit."""
    return (RECIPES / "classroom.service").read_text("utf-8")


def compose() -> dict[str, Any]:
    """Return the Compose file."""
    found: dict[str, Any] = yaml.safe_load((RECIPES / "compose.yaml").read_text("utf-8"))
    return found


def deployment() -> dict[str, Any]:
    """Return the Deployment for Kubernetes."""
    manifests = list(yaml.safe_load_all((RECIPES / "classroom.yaml").read_text("utf-8")))

    assert ["Deployment", "Service", "PersistentVolumeClaim"] == [manifest["kind"] for manifest in manifests]
    found: dict[str, Any] = manifests[0]["spec"]["template"]["spec"]
    return found


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """systemd-analyze accepts the unit, if it is installed; the unit passes the key as a file."""
    assert "LoadCredential=BLOCKRUN_WALLET_KEY:" in unit()
    assert "Environment=BLOCKRUN_WALLET_KEY" not in unit()
    analyze = shutil.which("systemd-analyze")
    if analyze is not None:
        copy = tmp_path / "classroom.service"
        copy.write_text(unit().replace("/opt/classroom/bin/python", sys.executable))
        verified = subprocess.run([analyze, "verify", copy], capture_output=True, text=True, check=False)
        assert (0, "") == (verified.returncode, verified.stderr)


def test_compose_follows_its_schema() -> None:
    """The Compose file is valid by the specification of Compose."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run([*command, RECIPES / "compose.yaml"], capture_output=True, text=True, check=False)

    assert 0 == checked.returncode, checked.stdout


def test_every_command_line_is_understood() -> None:
    """Each `serve` in the recipes uses options that exist."""
    [from_unit] = re.findall(r"^ExecStart=\S+ -m blockrun_magic classroom ((?:.*\\\n)*.*)$", unit(), re.MULTILINE)
    [container] = deployment()["containers"]
    lines = [
        shlex.split(from_unit.replace("\\\n", " ")),
        compose()["services"]["classroom-1"]["command"],
        [*container["command"][4:], *container["args"]],
    ]

    for line in lines:
        options = parser().parse_args(line)
        assert ("base", 8765) == (options.gateway, options.port)
        assert options.public_url.startswith("https://")


def test_only_the_classroom_has_the_wallet() -> None:
    """Neither the hub nor a student's server gets the key, in Compose and on Kubernetes."""
    services = compose()["services"]
    values = (RECIPES / "zero-to-jupyterhub.yaml").read_text("utf-8")

    assert "BLOCKRUN_WALLET_KEY" not in values
    assert {"classroom-1", "classroom-2"} == {name for name, one in services.items() if "WALLET_KEY" in str(one)}
    assert "BLOCKRUN_WALLET_KEY" not in str(deployment()["containers"][0]["env"])


def test_zero_to_jupyterhub_has_the_four_settings() -> None:
    """The doctor accepts the configuration that the chart creates from the values."""
    values = yaml.safe_load((RECIPES / "zero-to-jupyterhub.yaml").read_text("utf-8"))

    class Section:
        """A section of a configuration, such as `c.Spawner`."""

    class Config:
        """A configuration, such as `c`."""

        Spawner = Section()

    exec(values["hub"]["extraConfig"]["classroom"], {"c": Config})  # noqa: S102  the chart does the same
    hub = values["hub"]["config"]["JupyterHub"] | {
        "services": [
            {"name": name, "api_token": "from the chart"} | one for name, one in values["hub"]["services"].items()
        ],
        "load_roles": [{"name": name} | one for name, one in values["hub"]["loadRoles"].items()],
    }
    spawner = vars(Config.Spawner) | {"environment": values["singleuser"]["extraEnv"]}

    checks = check_config({"JupyterHub": hub, "Spawner": spawner})
    assert [] == [check for check in checks if not check.good]


def test_secrets_are_read_from_files(tmp_path: Path) -> None:
    """A file overrides a variable, and no repr shows its content."""
    (tmp_path / "JUPYTERHUB_API_TOKEN").write_text("token-in-a-file\n")
    environ = {
        FOLDER: str(tmp_path),
        "JUPYTERHUB_API_TOKEN": "another",
        "JUPYTERHUB_API_URL": "http://hub:8081/hub/api",
        "JUPYTERHUB_SERVICE_PREFIX": "/services/classroom/",
    }

    found = with_credentials(environ)
    settings = HubSettings.from_environ(found)

    assert settings is not None
    assert "token-in-a-file" == settings.token.reveal()
    assert "token-in-a-file" not in f"{found!r}{settings!r}"
    assert {} == dict(with_credentials({}))


def test_the_doctor_is_a_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command reads a hub's configuration, prints a line for each setting, and fails if one is missing."""
    monkeypatch.setenv("CLASSROOM_TOKEN", "0" * 64)
    recipe = RECIPES / "jupyterhub_config.py"
    shared = tmp_path / "shared.py"
    shared.write_text(recipe.read_text("utf-8").replace('if HUB.startswith("https://"):', "if False:"))

    good = run_command(tmp_path / "home", "doctor", "--hub-config", str(recipe))
    bad = run_command(tmp_path / "home", "doctor", "--hub-config", str(shared))

    assert 0 == good.returncode, good.stdout + good.stderr
    assert 1 == bad.returncode
    assert [SUBDOMAINS] == [
        line.split(": ")[0].split(None, 1)[1] for line in bad.stdout.splitlines() if line.startswith("MISSING")
    ]


def test_the_commands_of_the_documentation_are_understood() -> None:
    """Every `python -m blockrun_magic classroom` on a page has a command and options that exist."""
    pages = [path.read_text("utf-8").replace("\\\n", " ") for path in sorted((ROOT / "docs").glob("*.md"))]
    found = {
        line.strip()
        for page in pages
        for line in re.findall(r"python -m blockrun_magic classroom ([^`\n{]*[^`\n{ ])", page)
        if "…" not in line and "COMMAND" not in line
    }

    assert len(found) >= 8
    for line in found:
        assert callable(parser().parse_args(shlex.split(line)).run)
