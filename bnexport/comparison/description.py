"""What is known about a reference model without loading it again."""

from __future__ import annotations

from dataclasses import dataclass

from bnexport.frameworks.protocols import ModelInfo, Port, ReferenceModel
from bnexport.results.runs import Mode

Listed = tuple[str, tuple[int | None, ...], str]
"""The name, shape (None for an open axis) and dtype of an input or output."""


@dataclass(frozen=True, slots=True)
class Description:
    """What is known about a model without loading it again.

    Args:
        info: what its framework says of it.
        inputs: what it takes, in order.
        outputs: what it gives, in order.
        modes: which passes it has.
    """

    info: ModelInfo
    inputs: tuple[Listed, ...]
    outputs: tuple[Listed, ...]
    modes: tuple[Mode, ...]

    @property
    def given(self) -> list[str]:
        """The names of the outputs."""
        return [name for name, _, _ in self.outputs]


def described(model: ReferenceModel) -> Description:
    """What is known about a model that is loaded."""
    signature = model.signature
    return Description(model.info, _listed(signature.inputs), _listed(signature.outputs), tuple(model.modes))


def _listed(ports: tuple[Port, ...]) -> tuple[Listed, ...]:
    return tuple((port.name, tuple(port.shape), str(port.dtype)) for port in ports)
