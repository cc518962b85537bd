"""`python -m blockrun_magic price NOTEBOOK.ipynb`: what Run All would cost, without running it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from blockrun_magic.errors import BlockrunError
from blockrun_magic.wiring import blockrun_home


def main() -> int:
    """Print the price of each notebook that is named; return 1 where one cannot be told."""
    parser = argparse.ArgumentParser(prog="python -m blockrun_magic", description=__doc__)
    words = parser.add_subparsers(required=True, metavar="price")
    price = words.add_parser("price", help="what Run All of a notebook would cost, without running it")
    price.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK.ipynb")
    price.add_argument("--gateway", help="where requests go that the notebook sends nowhere; base otherwise")
    said = parser.parse_args()

    from blockrun_magic.notebook.cells.forecast import estimate_notebook, forecast_card
    from blockrun_magic.notebook.session import Session
    from blockrun_magic.notebook.settings import Settings

    session = Session(Settings())
    try:
        for path in said.notebooks:
            print(path.name, forecast_card(estimate_notebook(path, session, blockrun_home(), said.gateway)), sep="\n")  # noqa: T201  that is what it is for
    except BlockrunError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    finally:
        session.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
