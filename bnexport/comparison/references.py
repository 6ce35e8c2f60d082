"""The references of checks: a model in its framework, or a file that is a graph itself."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bnexport.comparison.description import Description
from bnexport.comparison.noise import BOTH_ROUND, Noise, Perturbs
from bnexport.comparison.reference import Feeds, Reference
from bnexport.datasets import sidecar
from bnexport.datasets.sidecar import Sidecar
from bnexport.errors import InputError, MachineError
from bnexport.frameworks.names import is_name
from bnexport.frameworks.protocols import Graph, Outputs, Want
from bnexport.frameworks.registry import recognise
from bnexport.onnx_graph import metadata
from bnexport.progress import Progress
from bnexport.results.runs import Mode
from bnexport.results.tolerance import PERTURBED, WIDER
from bnexport.system.cache import NOTHING_KEPT, Cache
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx


BUDGET = 5.0
"""A pass in float64 may take so many seconds."""

SLOWER = 100.0
"""onnx.reference takes so much longer than onnxruntime (ResNet50: 2.7 s an image)."""

SEEDS = 3
"""At most so many passes with other moved weights,"""

MOVED = 24
"""fewer where one of them has so many items: the largest movement is taken of all."""


class GraphReference(Reference):
    """A file that is a graph, hashed as it is read; its pass is the graph's, with nothing optimised, and is never remembered."""

    def _digest(self) -> str:
        self._model = self._read()
        return self._model.info.sha256 or NOTHING_KEPT.sha256(self.path)

    @property
    def itself(self) -> Graph:
        """The model as a graph.

        Raises:
            MachineError: the framework says that it is one, and it is not.
        """
        model = self.model
        if not isinstance(model, Graph):
            raise MachineError(
                f"the framework {self.recognition.name} did not return an ONNX graph", found=type(model).__name__
            )
        return model

    def graph(self, model_sidecar: Sidecar | None) -> tuple[onnx.ModelProto, bytes | None]:
        """The graph itself."""
        graph = self.itself.graph
        if model_sidecar is not None:
            metadata.write(
                graph, sidecar.for_metadata(model_sidecar)
            )  # so that what is made of the graph carries it too
        return graph, None

    def noise(self, mode: Mode, feeds: Feeds) -> Noise:
        """The graph in float64 by onnx.reference where that takes no longer than `BUDGET`; otherwise with moved weights (`Perturbs`)."""
        begun = time.perf_counter()
        rounded = self.run(mode, feeds)
        if (time.perf_counter() - begun) * SLOWER < BUDGET:
            with contextlib.suppress(InputError):  # an operator that onnx.reference lacks
                return Noise(self.run_in_float64(mode, feeds), [rounded], WIDER)
        model = self._perturbing()
        return self._guard(lambda: noise_of_moved_weights(model, feeds))

    def layer_noise(self, mode: Mode, feeds: Feeds, *, most_bytes: int) -> Iterator[Sequence[Array]]:  # noqa: ARG002 - a graph has one mode
        """For each node what it computes with moved weights (`Perturbs`)."""
        model = self._perturbing()
        values = self._guard(lambda: model.layers_perturbed(feeds, seed=0, most_bytes=most_bytes))
        while (value := self._guard(lambda: next(values, None))) is not None:
            yield [value]

    def _perturbing(self) -> Perturbs:
        model = self.model
        if not isinstance(model, Perturbs):
            raise InputError(f"how far rounding moves {self.title} cannot be measured")
        return model

    def description(self) -> Description:
        """What it is; it is read already."""
        return self._describe()

    def _recall(self, computed: Callable[[], Outputs], *key: str) -> Outputs:  # noqa: ARG002 - the graph is there
        return computed()


def noise_of_moved_weights(model: Perturbs, feeds: Feeds) -> Noise:
    """Passes of a graph in inference mode whose weights are moved by one unit in the last place. The errors are those of `Perturbs`."""
    items = max((len(x) for x in feeds.values() if x.ndim), default=1)
    seeds = min(SEEDS, -(-MOVED // max(1, items)))
    center, *others = (model.forward_perturbed(feeds, seed=seed) for seed in (None, *range(seeds)))
    return Noise(center, others, PERTURBED, BOTH_ROUND)


class NamedReference(Reference):
    """A model that is no file (`bnexport.frameworks.names`): it is loaded at once, and known by the hash of what it holds."""

    def _digest(self) -> str:
        self._model = self._read()
        return self._model.info.sha256


def open_reference(path: Path, want: Want, store: Cache, progress: Progress) -> Reference:
    """The reference in a model file or folder, or of a name.

    Raises:
        InputError: no framework knows it.
        UsageError: a signature is named for what has none.
    """
    framework = recognise(path)
    if framework.about.executable:
        return GraphReference(framework, path, want, store, progress)
    return (NamedReference if is_name(path) else Reference)(framework, path, want, store, progress)
