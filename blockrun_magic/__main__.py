"""Commands for a shell: `python -m blockrun_magic price NOTEBOOK.ipynb`, `serve` and `classroom`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from blockrun_magic.errors import BlockrunError


def main() -> int:
    """Run the command that the arguments name; return the exit status."""
    if sys.argv[1:2] == ["classroom"]:
        from blockrun_magic.classroom.commands import run

        return run(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m blockrun_magic", description=__doc__)
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    price = commands.add_parser("price", help="show what Run All of a notebook would cost, without running it")
    price.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK.ipynb")
    price.add_argument("--gateway", help="gateway for cells whose notebook selects none (default: base)")
    price.set_defaults(run=_price)
    endpoint = commands.add_parser("serve", help="a local endpoint for clients of OpenAI's image API")
    _add_serve_arguments(endpoint)
    commands.add_parser("classroom", help="one wallet for a class: a service with limits, and its owner's commands")
    options = parser.parse_args()
    status: int = options.run(options)
    return status


class _Version(argparse.Action):
    """The option `--version`, which looks the version up only when it is given."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it and end."""
        from blockrun_magic import __version__

        parser.exit(message=f"blockrun-magic {__version__}\n")


def _price(options: argparse.Namespace) -> int:
    from blockrun_magic.notebook.cells.forecast import estimate_notebook, forecast_card
    from blockrun_magic.notebook.session import Session
    from blockrun_magic.notebook.settings import Settings
    from blockrun_magic.wiring import blockrun_home

    session = Session(Settings())
    try:
        for path in options.notebooks:
            card = forecast_card(estimate_notebook(path, session, blockrun_home(), options.gateway))
            print(path.name, card, sep="\n")  # noqa: T201  the command's own output
    except BlockrunError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    finally:
        session.close()
    return 0


def _add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    from blockrun_magic.proxy.commands import add_arguments, serve

    add_arguments(parser)
    parser.set_defaults(run=serve)


if __name__ == "__main__":
    sys.exit(main())
