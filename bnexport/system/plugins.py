"""Plug-ins: classes that packages register under a group of entry points, found by name, and held to their word."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeGuard, TypeVar

from bnexport.errors import BnexportError, MachineError, UsageError, reason
from bnexport.system.suggestions import suggest

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Plugins(Generic[T]):
    """The plug-ins of one kind.

    Args:
        group: the group of entry points.
        noun: what messages call one.
        fits: whether an object is one.
        methods: what it takes to be one, such as "about and open".
        own: bnexport's own, MODULE:CLASS by name, which are found without a look at the metadata of all packages (40 ms).
    """

    group: str
    noun: str
    fits: Callable[[object], TypeGuard[T]]
    methods: str
    own: Mapping[str, str] = field(default_factory=dict)

    def names(self) -> list[str]:
        """The names of all that are installed: bnexport's own in their order, then the others."""
        return list(self.each())

    def each(self) -> Iterator[str]:
        """`names` one by one: the metadata is looked at behind bnexport's own."""
        yield from self.own
        yield from sorted({entry.name for entry in entry_points(group=self.group)} - self.own.keys())

    def value(self, name: str) -> str:
        """Where the plug-in of a name is, MODULE:CLASS.

        Raises:
            UsageError: none is installed under it.
        """
        if name in self.own:
            return self.own[name]
        entry = next((entry for entry in entry_points(group=self.group) if entry.name == name), None)
        if entry is None:
            names = self.names()
            raise UsageError(
                f"the {self.noun} {name} does not exist", expected=" or ".join(names), fix=suggest(name, names)
            )
        return entry.value

    def open(self, name: str) -> T:
        """The plug-in of a name.

        Raises:
            UsageError: none is installed under it.
            MachineError: it cannot be imported, or is none.
        """
        return self.load(name, self.value(name))

    def load(self, name: str, value: str) -> T:
        """The plug-in that is MODULE:CLASS.

        Raises:
            MachineError: it cannot be imported, or is none.
        """
        try:
            plugin = EntryPoint(name, value, self.group).load()()
        except Exception as error:  # whatever somebody's plug-in raises
            raise MachineError(f"the {self.noun} {name} cannot be loaded ({value}: {reason(error)})") from error
        if not self.fits(plugin):
            raise MachineError(
                f"the {self.noun} {name} is not a {self.noun} class",
                found=value,
                expected=f"a class with the methods {self.methods}",
            )
        return plugin

    def guard(self, name: str, call: Callable[[], R]) -> R:
        """What a call into the plug-in of a name gives.

        Raises:
            MachineError: it raised something that bnexport does not know. (bnexport's own are no strangers: what they raise
                unexpectedly is an internal error.)
        """
        try:
            return call()
        except (BnexportError, MemoryError):
            raise
        except Exception as error:  # whatever somebody's plug-in raises
            if name in self.own:
                raise
            raise MachineError(f"the {self.noun} {name} failed ({type(error).__name__}: {reason(error)})") from error
