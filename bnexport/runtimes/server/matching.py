"""Whether the model on a server is called as the file is: names, shapes and types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bnexport.results.signature import Port, Signature

_ANY = frozenset("fiub")


@dataclass(slots=True)
class Matched:
    """How the tensors of a file are called on a server.

    Args:
        inputs: the port of the server for each input of the file.
        outputs: the same for each output that it gives.
        problems: differences that keep the file from being called so.
        notes: differences that do not.
    """

    inputs: dict[str, Port] = field(default_factory=dict)
    outputs: dict[str, Port] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def match(file: Signature, server: Signature, optional: frozenset[str]) -> Matched:
    """What corresponds to what: tensors of one name, and of the others the one of the file and the one of the server.

    Args:
        file: what the file takes and gives.
        server: what the server says.
        optional: outputs that bnexport added to the file, which a server need not give.
    """
    matched = Matched()
    required = [port for port in file.outputs if port.name not in optional]
    matched.inputs = _pair("input", file.inputs, server.inputs, matched)
    matched.outputs = _pair("output", required, server.outputs, matched)
    given = {port.name: port for port in server.outputs}
    matched.outputs |= {p.name: given[p.name] for p in file.outputs if p.name in optional and p.name in given}
    taken = {port.name for port in matched.inputs.values()}
    matched.problems += [
        f"the server also requires the input {port.name}" for port in server.inputs if port.name not in taken
    ]
    return matched


def _pair(noun: str, file: Sequence[Port], server: Sequence[Port], matched: Matched) -> dict[str, Port]:
    by_name = {port.name: port for port in server}
    pairs = {port.name: by_name[port.name] for port in file if port.name in by_name}
    left = [port for port in file if port.name not in pairs]
    others = [port for port in server if port.name not in pairs]
    if len(left) == len(others) == 1:
        [ours], [its] = left, others
        pairs[ours.name] = its
        matched.notes.append(f"the {noun} {ours.name} of the file is called {its.name}")
    elif left:
        listed = ", ".join(port.name for port in server) or "none"
        matched.problems += [f"the server does not have the {noun} {port.name} (it has {listed})" for port in left]
    for port in file:
        if port.name in pairs:
            _compare(noun, port, pairs[port.name], matched)
    return pairs


def _compare(noun: str, ours: Port, its: Port, matched: Matched) -> None:
    if its.shape and not _fits(ours.shape, its.shape):
        matched.problems.append(
            f"the {noun} {ours.name} has the shape {_shown(its.shape)}, the file has {_shown(ours.shape)}"
        )
    if ours.dtype != its.dtype:
        cast = np.dtype(ours.dtype).kind in _ANY and np.dtype(its.dtype).kind == ours.dtype.kind
        (matched.notes if cast else matched.problems).append(
            f"the {noun} {ours.name} is {its.dtype}, the file has {ours.dtype}"
        )


def _fits(ours: tuple[int | None, ...], its: tuple[int | None, ...]) -> bool:
    """Whether two shapes may be the same; the batch is compared by running."""
    return len(ours) == len(its) and all(None in (a, b) or a == b for a, b in zip(ours[1:], its[1:], strict=True))


def _shown(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('N' if side is None else str(side) for side in shape)})"
