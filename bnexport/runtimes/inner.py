"""What is computed inside a graph: its tensors on one batch, as many at a time as memory allows (onnxruntime with its optimisations off, or a target)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from bnexport.onnx_graph import tensors
from bnexport.onnx_graph.protobuf import serialise
from bnexport.runtimes import ort_session
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

MOST_BYTES = 256 << 20
"""So much of the tensors is in memory at a time."""


OpenWith = Callable[[Sequence[str]], Callable[[Mapping[str, Array], Sequence[str]], dict[str, Array]]]
"""What computes some of the tensors with these names, for a batch."""


class InnerTensors:
    """The floating point tensors that a graph's nodes make of one batch.

    Args:
        graph: with all of its tensors described, as far as they can be.
        provider: where it runs.
        feeds: the batch.
        most_bytes: how much of the tensors is in memory at a time.
        open_with: opens the graph on another runtime with these tensors among its outputs, for each part that is in memory; None for onnxruntime.

    Raises:
        InputError: onnxruntime cannot read the graph.
        MachineError: the provider does not run.
    """

    def __init__(
        self,
        graph: onnx.ModelProto,
        provider: ort_session.Provider,
        feeds: Mapping[str, Array],
        most_bytes: int = MOST_BYTES,
        open_with: OpenWith | None = None,
    ) -> None:
        made = [output for node in graph.graph.node for output in node.output if output]
        floats = float_tensors(graph)
        self._feeds, self._most = feeds, most_bytes
        self._order = {name: index for index, name in enumerate(made)}
        if open_with is None:
            whole = serialise(tensors.with_outputs(graph, floats))
            session = ort_session.Session(whole, provider, optimized=False)
            self._open: OpenWith = lambda _: session.run
        else:
            self._open = open_with
        self.names = sorted(
            {*floats, *(o.name for o in graph.graph.output)} & self._order.keys(), key=self._order.__getitem__
        )
        """The names of these tensors, in the order in which they are made."""
        self.makers = {output: node.op_type for node in graph.graph.node for output in node.output}
        """The operator that makes each of them."""
        self._listed = set(self.names)
        images = len(next(iter(feeds.values())))
        self._bytes = {
            info.name: 4 * math.prod(images if axis == 0 or side is None else side for axis, side in enumerate(shape))
            for info in [*graph.graph.value_info, *graph.graph.output]
            if (shape := tensors.shape(info)) is not None
        }
        self._kept: dict[str, Array] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._listed

    def __getitem__(self, name: str) -> Array:
        return self.all_of([name])[name]

    def all_of(self, wanted: Sequence[str]) -> dict[str, Array]:
        """Some of the tensors; those that are made after them are computed along, as far as memory allows.

        Raises:
            InputError: the graph does not run on the batch.
        """
        if any(name not in self._kept for name in wanted):
            self._kept.clear()
            names = list(dict.fromkeys([*wanted, *self._following(wanted)]))
            self._kept = self._open(names)(self._feeds, names)
        return {name: self._kept[name] for name in wanted}

    def _following(self, wanted: Sequence[str]) -> list[str]:
        start = min(self._order[name] for name in wanted)
        left, ahead = self._most, []
        for name in self.names:
            if self._order[name] >= start:
                left -= self._bytes.get(name, self._most)
                if left < 0:
                    break
                ahead.append(name)
        return ahead


def float_tensors(graph: onnx.ModelProto) -> list[str]:
    """The tensors that nodes make and that hold floating point numbers, in order; those of unknown type too."""
    made = [output for node in graph.graph.node for output in node.output if output]
    kinds = {info.name: info.type.tensor_type.elem_type for info in [*graph.graph.value_info, *graph.graph.output]}
    return [name for name in made if kinds.get(name, 1) in (0, 1, 10, 11, 16)]
