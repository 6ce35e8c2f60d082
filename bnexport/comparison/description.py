"""What is known about a reference model without loading it again."""

from __future__ import annotations

from dataclasses import dataclass

from bnexport.frameworks.protocols import FileDescription, ModelInfo, Port, ReferenceModel
from bnexport.results.runs import Mode

Listed = tuple[str, tuple[int | None, ...], str]
"""The name, shape (None for an open axis) and dtype of an input."""


@dataclass(frozen=True, slots=True)
class Description:
    """What is known about a model without loading it again.

    Args:
        info: what its framework says of it.
        inputs: what it takes, in order.
        outputs: the names of what it gives, in order.
        modes: which passes it has.
    """

    info: ModelInfo
    inputs: tuple[Listed, ...]
    outputs: tuple[str, ...]
    modes: tuple[Mode, ...]


def of_model(model: ReferenceModel) -> Description:
    """What is known about a model that is loaded."""
    signature = model.signature
    names = tuple(port.name for port in signature.outputs)
    return Description(model.info, _list(signature.inputs), names, tuple(model.modes))


def of_file(file: FileDescription) -> Description:
    """What a file says about its model."""
    return Description(file.info, _list(file.inputs), file.outputs, file.modes)


def _list(ports: tuple[Port, ...]) -> tuple[Listed, ...]:
    return tuple((port.name, tuple(port.shape), str(port.dtype)) for port in ports)
