"""What to do about a finding, as data: written as a command and its options, or as a call and its keywords.

A rule names an operation and options by the keywords of the Python functions. How they are spelled on a command line is known here only:

    Operation("check", {"model": Path("net.h5"), "data": "images", "scaling": "unit"})
    bnexport check net.h5 images --normalize unit
    bnexport.check("net.h5", "images", overrides=bnexport.Overrides(scaling="unit"))
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bnexport.results.option_names import current_name

POSITIONAL = ("model", "data")
"""Arguments without a keyword, in this order."""

OVERRIDES = ("size", "channels", "resize", "scaling", "fit", "order", "mean", "std")
"""Keywords of `bnexport.Overrides`, which are options of their own on the command line."""

_FLAGS = {"order": "--channel-order", "output": "-o", "providers": "--target"}
"""Keywords whose options are not named after them; the others are, by the name of today or by a former one."""

_JOINED = {"size": "x", "mean": ",", "std": ","}


def flags(values: Mapping[str, object]) -> list[str]:
    """Options of a command, as words that are not quoted; a value that is None or True leaves the option alone.

    >>> flags({"size": (224, 224), "order": "bgr", "rtol": None, "strict_placement": True})
    ['--size', '224x224', '--channel-order', 'bgr', '--rtol', '--no-cpu-fallback']
    """
    words: list[str] = []
    for keyword, value in values.items():
        flag = _FLAGS.get(keyword) or f"--{current_name(keyword)}"
        if value is None or value is True:
            words.append(flag)
        elif isinstance(value, tuple) and keyword not in _JOINED:
            words += [word for one in value for word in (flag, _word(one))]
        else:
            text = _JOINED[keyword].join(map(str, value)) if isinstance(value, tuple) else _word(value)
            words += [flag, text]
    return words


def keywords(values: Mapping[str, object]) -> list[str]:
    """Keyword arguments of a call, those of `bnexport.Overrides` gathered in one.

    >>> keywords({"labels": Path("labels.csv"), "scaling": "unit"})
    ["labels='labels.csv'", "overrides=bnexport.Overrides(scaling='unit')"]
    """
    plain = [f"{keyword}={_literal(value)}" for keyword, value in values.items() if keyword not in OVERRIDES]
    fields = [f"{keyword}={_literal(value)}" for keyword, value in values.items() if keyword in OVERRIDES]
    return plain + ([f"overrides=bnexport.Overrides({', '.join(fields)})"] if fields else [])


def spell_options(**values: object) -> str:
    """Options in the message of an error, which readers of a terminal and of a traceback see: spelled for both.

    >>> spell_options(inputs="data.npz")
    "--arrays data.npz (in Python: inputs='data.npz')"
    """
    options = NamedOptions(values)
    return f"{options.flags} (in Python: {options.keywords})"


def _word(value: object) -> str:
    """A value as one word of a command; a path is no option."""
    return f"./{value}" if isinstance(value, Path) and str(value).startswith("-") else str(value)


def _literal(value: object) -> str:
    return repr(str(value)) if isinstance(value, Path | str) else repr(value)


@dataclass(frozen=True, slots=True)
class Operation:
    """A function of bnexport that is to be called, which is a command too.

    Args:
        name: such as "check".
        arguments: by their keywords; a rule gives only those that differ from the check that raised it.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """A shell command."""
        plain = [_word(self.arguments[keyword]) for keyword in POSITIONAL if keyword in self.arguments]
        return shlex.join(["bnexport", self.name, *plain, *flags(self._named)])

    @property
    def call(self) -> str:
        """A call in Python."""
        plain = [_literal(self.arguments[keyword]) for keyword in POSITIONAL if keyword in self.arguments]
        if "inputs" in self.arguments:
            plain.append("None")
        return f"bnexport.{self.name}({', '.join([*plain, *keywords(self._named)])})"

    @property
    def _named(self) -> dict[str, object]:
        return {keyword: value for keyword, value in self.arguments.items() if keyword not in POSITIONAL}


@dataclass(frozen=True, slots=True)
class NamedOptions:
    """Options that a reason mentions, by their keywords; a value that is None names the option alone."""

    values: Mapping[str, Any]

    @property
    def flags(self) -> str:
        """As on a command line."""
        return shlex.join(flags(self.values))

    @property
    def keywords(self) -> str:
        """As in Python."""
        alone = [f"Overrides.{k}" if k in OVERRIDES else k for k, value in self.values.items() if value is None]
        return ", ".join([*alone, *keywords({k: value for k, value in self.values.items() if value is not None})])


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do about a finding.

    Args:
        reason: what to do or what it gives, in words that stand without the command.
        command: a shell command that can be pasted as it is; None where there is none.
        operation: what the command runs; None where there is no command, or where it was read from a bundle.
        words: the reason in parts, where it mentions options; else empty.
    """

    reason: str
    command: str | None = None
    operation: Operation | None = None
    words: tuple[str | NamedOptions, ...] = ()

    @property
    def fix(self) -> str:
        """The command and the reason in one line."""
        return f"{self.command}: {self.reason}" if self.command else self.reason

    def as_dict(self) -> dict[str, str | None]:
        """The command and the reason, as JSON has them."""
        return {"reason": self.reason, "command": self.command}

    def __str__(self) -> str:
        """The call and the reason in one line, as for a reader of Python."""
        reason = "".join(w if isinstance(w, str) else w.keywords for w in self.words) or self.reason
        return f"{self.operation.call}: {reason}" if self.operation else self.fix if self.command else reason


def advise(reason: str | Sequence[str | NamedOptions], operation: Operation | None = None) -> Action:
    """An action, its command and its reason written for the command line.

    Args:
        reason: in words, in parts where it mentions options.
        operation: what to run; `bnexport.rules.actions.add_files` adds the files.

    >>> action = advise(("accept it with ", NamedOptions({"rtol": None})))
    >>> action.reason, str(action)
    ('accept it with --rtol', 'accept it with rtol')
    """
    command = operation.command if operation else None
    if isinstance(reason, str):
        return Action(reason, command, operation)
    return Action("".join(w if isinstance(w, str) else w.flags for w in reason), command, operation, tuple(reason))
