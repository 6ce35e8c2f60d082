"""The tensors of a graph that are quantised or rounded, and the graph in which each of them can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

QUANTISE, NOISE = "bnexport/quantise", "bnexport/noise"
"""The inputs that a float form has in addition, of shape (sites,)."""


@dataclass(frozen=True, slots=True)
class Site:
    """A tensor that is quantised.

    Args:
        tensor: its name; of a weight the name of its integers.
        weight: whether it is a weight.
        group: sites with the same scale and zero point.
        scale: the step; of a weight the largest one; 0 where it is measured on each batch.
        low: the smallest value that can be represented; 0 for weights.
        high: the largest one.
        nodes: the nodes that make and read it, as the file calls them.
    """

    tensor: str
    weight: bool
    group: str
    scale: float = 0.0
    low: float = 0.0
    high: float = 0.0
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FloatForm:
    """A float form.

    Args:
        graph: with the inputs `QUANTISE` and `NOISE`.
        sites: what the entries of these are for.
        inputs: the float tensor of each site that is an activation, before it is quantised.
    """

    graph: onnx.ModelProto
    sites: tuple[Site, ...]
    inputs: Mapping[int, str] = field(default_factory=dict)

    def gates(self, quantise: Array | float = 0.0, noise: Array | float = 0.0) -> dict[str, Array]:
        """The two additional inputs, one number for all sites or one for each."""
        shape = (len(self.sites),)
        return {
            QUANTISE: np.ascontiguousarray(np.broadcast_to(np.float32(quantise), shape)),
            NOISE: np.ascontiguousarray(np.broadcast_to(np.float32(noise), shape)),
        }


class NotCoveredError(Exception):
    """The graph has an operator or a scale that has no float form."""


def spread_scale(scale: Array, shape: tuple[int, ...], node: onnx.NodeProto) -> Array:
    """The step of each element of a weight, in a shape that broadcasts to the weight's."""
    if scale.size == 1:
        return scale.reshape(())
    attributes = dict(_integers(node))
    axis = attributes.get("axis", 1) % len(shape)
    if scale.ndim == 1:
        return scale.reshape([-1 if nth == axis else 1 for nth in range(len(shape))])
    block = attributes.get("block_size", 0)
    if scale.ndim != len(shape) or not block:
        raise NotCoveredError
    return np.repeat(scale, block, axis).take(range(shape[axis]), axis)


def _integers(node: onnx.NodeProto) -> Iterator[tuple[str, int]]:
    yield from ((attribute.name, attribute.i) for attribute in node.attribute)
