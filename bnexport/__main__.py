"""The `bnexport` command, also as python -m bnexport."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs it; Ctrl-C while it is still being imported ends it as quietly as later."""
    try:
        from bnexport.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
