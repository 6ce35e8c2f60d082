"""What a machine can run, for people and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from bnexport.results.health import Health, State
from bnexport.results.text import plain

if TYPE_CHECKING:
    from rich.console import Console

_COLOUR = {State.OK: "green", State.ABSENT: "yellow", State.BROKEN: "red"}


def show(health: Health, console: Console) -> None:
    """Prints what is broken first, then everything, then what bnexport can do here."""
    for point in health.points:
        if point.state == State.BROKEN:
            console.print(f"[red]BROKEN[/] {escape(plain(f'{point.name}: {point.told}'))}", soft_wrap=True)
            if point.fix:
                console.print("  ->", escape(plain(point.fix)), soft_wrap=True)
    topic = ""
    for point in health.points:
        if point.topic != topic:
            topic = point.topic
            console.print(f"\n[bold]{topic}[/]")
        console.print(
            f"  [{_COLOUR[point.state]}]{point.state:7}[/] {point.name:16} {escape(plain(point.told))}", soft_wrap=True
        )
        if point.fix and point.state == State.ABSENT:
            console.print(" " * 26, "->", escape(plain(point.fix)), soft_wrap=True)
    console.print("\n[bold]Supported on this machine[/]")
    for what, can in health.able:
        console.print(f"  {'[green]yes[/]' if can else '[yellow]no [/]'}     {escape(what)}", soft_wrap=True)


def as_dict(health: Health) -> dict[str, object]:
    """The same as plain values."""
    return {
        "schema_version": "1.0",
        "healthy": bool(health),
        "able": [{"what": what, "able": can} for what, can in health.able],
        "points": [
            {"topic": p.topic, "name": p.name, "state": str(p.state), "told": p.told, "fix": p.fix or None}
            for p in health.points
        ],
    }
