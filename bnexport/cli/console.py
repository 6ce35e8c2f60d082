"""The console for text on stdout: as wide as the terminal or COLUMNS, else as wide as a page of a log."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PAGE = 120
"""The columns of tables where there is no screen."""


def stdout_console() -> tuple[Console, int | None]:
    """The console, and the columns of the screen; None where there is none, so that no sentence has to be shortened."""
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal or os.environ.get("COLUMNS", "").isdigit():
        return console, console.width
    return Console(highlight=False, width=PAGE), None
