"""Where the program begins, `reverie` or ``python -m reverie``: Ctrl-C is heard before what takes time is imported."""

from __future__ import annotations

import sys

from reverie.stopping import stop_at_once


def main() -> int:
    """Run what was typed and return its exit code; see `cli.main`."""
    stop_at_once("--json" in sys.argv[1:])
    from reverie import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
