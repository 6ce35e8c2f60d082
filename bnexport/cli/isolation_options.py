"""The options for running a command in a separate process with limits."""

from __future__ import annotations

from typing import Annotated

import typer

ISOLATION = "Isolation"
"""The panel that groups these options in the help."""

Isolate = Annotated[
    bool,
    typer.Option(
        "--isolate",
        rich_help_panel=ISOLATION,
        help="Run in a separate process with limits on time and memory. Use it for files from others. It does not "
        "restrict access to files or the network.",
    ),
]
IsolateTimeout = Annotated[
    float,
    typer.Option(
        "--isolate-timeout",
        metavar="SECONDS",
        min=1,
        rich_help_panel=ISOLATION,
        help="The longest time that the separate process may take, in seconds. Used with --isolate.",
    ),
]
IsolateMemory = Annotated[
    str | None,
    typer.Option(
        "--isolate-memory",
        metavar="SIZE",
        rich_help_panel=ISOLATION,
        help="The largest amount of memory that the separate process may use, for example 500MB or 8GiB. A plain "
        "number is in bytes. By default it is the memory of the machine. Used with --isolate.",
    ),
]
AllowRemote = Annotated[
    bool,
    typer.Option(
        "--allow-remote",
        rich_help_panel=ISOLATION,
        help="Read images from URLs, and from files outside of the folder or manifest that names them. Used with "
        "--isolate, which refuses both otherwise.",
    ),
]
