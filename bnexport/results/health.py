"""What a machine can run: plain records, as in `verdict`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Of one thing that was looked at."""

    OK = "ok"
    ABSENT = "absent"
    """it is not there, and nothing that was required needs it"""
    BROKEN = "broken"
    """it is required and absent, or it is there and does not work"""


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that was looked at.

    Args:
        topic: what it belongs to, such as "CUDA".
        name: what it is.
        state: how it is.
        told: what was found, in words.
        fix: what to do; "" where there is nothing to do.
    """

    topic: str
    name: str
    state: State
    told: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """Everything that was looked at; truthy when nothing is broken.

    Args:
        points: in the order in which they depend on each other.
        able: what bnexport can do here: the command, and whether it can.
    """

    points: tuple[Point, ...]
    able: tuple[tuple[str, bool], ...]

    def __bool__(self) -> bool:
        return all(point.state != State.BROKEN for point in self.points)
