"""How a module of PyTorch is called, and which of its outputs is which: by name, then by order and shape (torch)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from inspect import Parameter
from typing import TYPE_CHECKING

import numpy as np

from bnexport.datasets.arrays.fit import fits
from bnexport.errors import InputError
from bnexport.frameworks.protocols import Port, Signature
from bnexport.results.signature import dtype_named
from bnexport.types import Nested

if TYPE_CHECKING:
    import torch

_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Call:
    """How a module is called.

    Args:
        signature: its inputs and outputs, under the names that they have in a check.
        positional: the inputs that are handed over by position.
        keywords: the parameters of the others, by input.
    """

    signature: Signature
    positional: tuple[str, ...] = ()
    keywords: Mapping[str, str] = field(default_factory=dict)

    def arguments(self, x: Mapping[str, torch.Tensor]) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
        """The arguments for a batch."""
        return [x[name] for name in self.positional], {keyword: x[name] for name, keyword in self.keywords.items()}

    def outputs(self, value: Nested) -> dict[str, torch.Tensor]:
        """The tensors that a module gave, by the names that they have in a check.

        Those that the signature does not have keep their own names.

        Raises:
            InputError: there are fewer of them than the signature has.
        """
        ports, given = self.signature.outputs, list(_flatten(value))
        own = {name: tensor for name, tensor in given if name}
        if {port.name for port in ports} <= own.keys():
            return own
        if len(given) < len(ports):
            raise InputError(
                "the module has fewer outputs than its ONNX file",
                found=f"{len(given)} tensors",
                expected=", ".join(port.name for port in ports),
            )
        order = _order(ports, [tensor for _, tensor in given])
        named = {port.name: given[index][1] for port, index in zip(ports, order, strict=True)}
        extra = [index for index in range(len(given)) if index not in order]
        return named | {given[index][0] or f"output {index}": given[index][1] for index in extra}


def call_of_function(parameters: Sequence[Parameter], signature: Signature) -> Call:
    """The call of a function whose inputs are those of an ONNX file: by name where it has parameters of these names, else by position.

    Raises:
        InputError: it needs other arguments.
    """
    inputs = [port.name for port in signature.inputs]
    by_name = {parameter.name for parameter in parameters if parameter.kind in _BY_NAME}
    listed = [parameter.name for parameter in parameters if parameter.kind in _BY_POSITION]
    several = any(parameter.kind == Parameter.VAR_POSITIONAL for parameter in parameters)
    required = {
        parameter.name
        for parameter in parameters
        if parameter.default is Parameter.empty and parameter.kind in {*_BY_POSITION, *_BY_NAME}
    }
    if set(inputs) <= by_name:
        call, given = Call(signature, keywords={name: name for name in inputs}), set(inputs)
    else:
        call, given = Call(signature, positional=tuple(inputs)), set(listed[: len(inputs)])
        if len(inputs) > len(listed) and not several:
            raise InputError(
                "the module takes fewer inputs than its ONNX file",
                found=", ".join(listed) or "none",
                expected=", ".join(inputs),
            )
    if missing := [name for name in [*listed, *sorted(required - set(listed))] if name in required - given]:
        raise InputError(
            f"the module takes {missing[0]}, which is not an input of its ONNX file",
            found=", ".join(inputs),
            fix=f"wrap the module in one that does not need {missing[0]}",
        )
    return call


def call_of_program(program: torch.export.ExportedProgram) -> Call:
    """The call of an exported program, which says what it takes and gives."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    inputs = [str(name) for name in program.graph_signature.user_inputs]
    outputs = [str(name) for name in program.graph_signature.user_outputs]
    signature = Signature(
        tuple(_port(name, values.get(name)) for name in inputs),
        tuple(_port(name, values.get(name)) for name in outputs),
    )
    by_position, by_name = program.call_spec.in_spec.children()
    count = by_position.num_leaves
    keywords = [str(key) for key in by_name.context or ()]
    if len(keywords) != len(inputs) - count:
        raise InputError("the exported program takes nested arguments", expected="tensors")
    return Call(signature, tuple(inputs[:count]), dict(zip(inputs[count:], keywords, strict=True)))


def _port(name: str, value: object) -> Port:
    import torch

    if not isinstance(value, torch.Tensor):
        return Port(name, (), np.dtype(np.float32))
    shape = tuple(side if isinstance(side, int) else None for side in value.shape)
    return Port(name, shape, dtype_named(str(value.dtype).removeprefix("torch.")))


def _flatten(value: Nested, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in nested tuples, lists, dictionaries and dataclasses, with the names of keys and fields."""
    import torch

    if isinstance(value, torch.Tensor):
        yield name, value
        return
    entries: Mapping[str, Nested] = {}
    if isinstance(value, Mapping):  # ModelOutput of transformers among them
        entries = {str(key): entry for key, entry in value.items()}
    elif is_dataclass(value) and not isinstance(value, type):
        entries = {one.name: getattr(value, one.name) for one in fields(value)}
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        entries = {str(key): getattr(value, key) for key in value._fields}
    elif isinstance(value, tuple | list):
        for nth, entry in enumerate(value):
            yield from _flatten(entry, f"{name}.{nth}" if name else "")
    for key, entry in entries.items():
        yield from _flatten(entry, f"{name}.{key}" if name else key)


def _order(ports: Sequence[Port], given: Sequence[torch.Tensor]) -> list[int]:
    """Which tensor is which output: in their order where the shapes allow it, else by shape where that leaves one choice."""
    if all(_fits(port, tensor) for port, tensor in zip(ports, given, strict=False)):
        return list(range(len(ports)))
    chosen: list[int] = []
    for port in ports:
        fitting = [index for index, tensor in enumerate(given) if index not in chosen and _fits(port, tensor)]
        if len(fitting) != 1:
            return list(range(len(ports)))  # the comparison says what is wrong with their shapes
        chosen += fitting
    return chosen


def _fits(port: Port, tensor: torch.Tensor) -> bool:
    return not port.shape or fits(tuple(tensor.shape), port.shape)  # without axes it is of unknown rank
