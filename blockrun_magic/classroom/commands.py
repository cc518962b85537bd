"""`python -m blockrun_magic classroom`: the service as a process, and its owner's commands."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from blockrun_magic.errors import BlockrunError, MissingDependency, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blockrun_magic.classroom.storage.records import Records

__all__ = ["parser", "run"]

_DEFAULT_PORT = 8765
_EPILOG = "`COMMAND --help` explains a command."
_GIVEN = argparse.SUPPRESS
_FIRST = ("change_limits", "invite", "doctor")
"""The commands that work before a class has any records."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors have two lines."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{message[:1].upper()}{message[1:]}.\nRun `{self.prog} --help` to see how it is used.\n")
        raise SystemExit(2)


def run(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name; return the exit status: 2 for a misuse, 1 for a failure."""
    options = parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except UsageError as error:
        _complain(error)
        return 2
    except BlockrunError as error:
        _complain(error)
        return 1
    return status


def _complain(error: BlockrunError) -> None:
    message, hint = error.lines
    print(" ".join(message.split()), " ".join(hint.split()), sep="\n", file=sys.stderr)  # noqa: T201


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    root = _Parser(prog="python -m blockrun_magic classroom", description=__doc__, epilog=_EPILOG)
    _add_place(root, None)
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    serve = _command(commands, "serve", "serve a class", _serve)
    serve.add_argument("--gateway", default="base", help="gateway to buy from: a name or a URL (default: base)")
    serve.add_argument("--port", type=_port, default=_DEFAULT_PORT, help="0 picks a free one (default 8765)")
    serve.add_argument("--host", default="127.0.0.1", help="listen on another address")
    serve.add_argument("--public-url", metavar="URL", help="the address that others use, if a proxy is in front")
    serve.add_argument("--name", action="append", default=[], metavar="HOST", help="another host name of this service")
    serve.add_argument("--teachers", metavar="GROUP", help="the hub's group of teachers")
    serve.add_argument("--doctor", action="store_true", help="only check the service and the settings of a hub")
    serve.add_argument(
        "--hub-config", type=Path, metavar="FILE", help="with --doctor: also check this jupyterhub_config.py"
    )
    limits = _command(commands, "limits", "set limits, or show them", _limits)
    limits.add_argument("settings", nargs="*", metavar="SUBJECT[/PERIOD]=USD", help="such as class=50 each/day=0.50")
    invite = _command(commands, "invite", "print a join code", _invite)
    invite.add_argument("name", nargs="?", help="for one person")
    invite.add_argument("--people", type=int, metavar="N", help="for up to N people, who choose their names")
    invite.add_argument("--expires", default="30d", metavar="WHEN", help="such as 7d, 12h or 2027-01-31 (default 30d)")
    invite.add_argument("--teacher", action="store_true", help="as a teacher")
    invite.add_argument("--group", action="append", default=[], metavar="GROUP", help="into a group")
    report = _command(commands, "report", "show each person's spend", _report)
    report.add_argument("--csv", type=Path, metavar="FILE", help="write it to a file")
    for name, text, call in (
        ("revoke", "revoke the access of a person", _revoke),
        ("forget", "erase the name, the prompts and the images of a person; amounts stay", _forget),
    ):
        _command(commands, name, text, call).add_argument("name")
    _command(commands, "pause", "refuse new orders", _pause)
    _command(commands, "resume", "let the class continue", _resume)
    doctor = _command(commands, "doctor", "check the service, its wallet and its settings", _doctor)
    doctor.add_argument("--gateway", help="check the wallet that pays at this gateway")
    doctor.add_argument("--hub-config", type=Path, metavar="FILE", help="also check this jupyterhub_config.py")
    _command(commands, "link", "print a new one-time link to the teacher's page", _link)
    return root


def _command(commands: Any, name: str, text: str, call: Callable[[argparse.Namespace], int]) -> _Parser:
    parser: _Parser = commands.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.")
    _add_place(parser, _GIVEN)
    parser.set_defaults(run=call)
    return parser


def _add_place(parser: argparse.ArgumentParser, default: str | None) -> None:
    """Add the options for the location of the records; they can come before or after the command."""
    parser.add_argument("--home", default=default, metavar="DIR", help="folder of wallet and records (~/.blockrun)")
    parser.add_argument("--database", default=default, metavar="URL", help="postgresql://…, for several processes")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:6]) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)


def _serve(options: argparse.Namespace) -> int:
    if options.doctor:
        return _doctor(options)
    missing = [name for name in ("jinja2", "prometheus_client") if find_spec(name) is None]
    if missing:
        raise MissingDependency(
            f"A classroom needs {' and '.join(missing)}.", 'Run `pip install "blockrun-magic[classroom]"`.'
        )
    from blockrun_magic.classroom.cli.serve import serve

    return serve(options)


def _owner(call: str) -> Callable[[argparse.Namespace], int]:
    """Return a command of the owner, which opens the records and needs no wallet."""

    def run_command(options: argparse.Namespace) -> int:
        from blockrun_magic.classroom.cli import owner
        from blockrun_magic.classroom.cli.serve import home_of
        from blockrun_magic.classroom.storage.records import has_records, open_records

        home = home_of(options)
        is_new = options.database is None and not has_records(home)
        if is_new and call not in _FIRST:
            raise UsageError(f"There is no class in {home}.", "Name its folder with --home, or start one with `serve`.")
        records = open_records(home, options.database)
        try:
            command: Callable[[Records, argparse.Namespace], int] = getattr(owner, call)
            status = command(records, options)
        finally:
            records.close()
        if is_new:
            sys.stderr.write(f"Started a new class in {home}.\n")
        return status

    return run_command


_limits = _owner("change_limits")
_invite = _owner("invite")
_report = _owner("report")
_revoke = _owner("revoke")
_forget = _owner("forget")
_pause = _owner("pause")
_resume = _owner("resume")
_doctor = _owner("doctor")
_link = _owner("link")
