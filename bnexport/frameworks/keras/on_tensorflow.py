"""TensorFlow as a backend of Keras: passes are traced as functions for any number of items (tensorflow)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, cast

import numpy as np

from bnexport.frameworks.keras.backends import Forward, Tensors, Traced, weights_of
from bnexport.frameworks.keras.logits import KeptByKeras
from bnexport.frameworks.keras.recorder import OF_A_LAYER, Recorder
from bnexport.frameworks.keras.wide_resizing import resizing_in_float64
from bnexport.frameworks.protocols import Layer
from bnexport.types import Array

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


UNTRACED = 2
"""So many calls of a pass are not traced, unless it is computed often."""


class TensorFlow:
    """The backend `tensorflow`."""

    name = "tensorflow"

    def traces(self, calls: int, *, often: bool) -> bool:
        """Tracing costs as much as two calls: a pass that a small check computes once or twice is not traced."""
        return often or calls > UNTRACED

    def load(self) -> str:
        """Imports TensorFlow."""
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")
        return str(tf.__version__)

    def precision(self, *, float64: bool) -> AbstractContextManager[None]:
        """Nothing has to be set: TensorFlow has all types, always; only its resizing knows no float64."""
        return resizing_in_float64() if float64 else nullcontext()

    def with_seed(self, seed: int) -> AbstractContextManager[None]:  # noqa: ARG002 - Keras passes the seeds
        """Every layer has a generator of its own."""
        return nullcontext()

    def logits(self) -> KeptByKeras:
        """Tensors take attributes."""
        return KeptByKeras()

    def tensor(self, array: Array, dtype: str) -> object:
        """A constant."""
        import tensorflow as tf

        return tf.constant(array, dtype=dtype)

    def array(self, tensor: object) -> Array:
        """The tensor's own buffer."""
        return np.asarray(tensor)

    def traced_for(self, model: keras.Model, x: Sequence[object]) -> tuple[object, ...]:
        """A trace holds for any number of items, and for any length but in `_lengths_matter`."""
        return tuple(tuple(one.shape[1:]) for one in cast("Sequence[tf.Tensor]", x)) if _lengths_matter(model) else ()

    def trace(self, forward: Forward, model: keras.Model, x: Sequence[object]) -> Traced:
        """A concrete function; weights are read where the graph runs."""
        import tensorflow as tf

        names: list[str] = []

        def forward_all(*inputs: tf.Tensor) -> list[object]:
            outputs = forward(inputs, weights_of(model))
            names[:] = outputs
            return list(outputs.values())

        shapes = [t.shape for t in model.inputs]
        if _lengths_matter(model):
            given = cast("Sequence[tf.Tensor]", x)
            shapes = [(shape[0], *one.shape[1:]) for shape, one in zip(shapes, given, strict=True)]
        signature = [tf.TensorSpec(shape, t.dtype) for shape, t in zip(shapes, model.inputs, strict=True)]
        traced = tf.function(forward_all, input_signature=signature, autograph=False).get_concrete_function()

        def run(inputs: Sequence[object]) -> Tensors:
            return dict(zip(names, traced(*inputs), strict=True))

        return run

    def recorder(self, names: Sequence[str], paths: Mapping[int, str]) -> Recorder:
        """Goes by the operations of the traced graph."""
        return _GraphRecorder(names, paths)

    def observe(self, forward: Forward, model: keras.Model, x: Sequence[object], recorder: Recorder) -> None:  # noqa: ARG002 - `forward` has it
        """Traces the pass, and runs nothing."""
        self.trace(forward, model, x)


def _lengths_matter(model: keras.Model) -> bool:
    """Whether a trace with open lengths would be wrong, or refused.

    TimeDistributed then computes as many steps as there are items, and UpSampling2D that interpolates refuses sizes that are tensors (Keras 3.15).
    """
    from keras.layers import TimeDistributed, UpSampling2D

    is_open = any(None in t.shape[1:] for t in model.inputs)
    return is_open and any(
        isinstance(layer, TimeDistributed) or (isinstance(layer, UpSampling2D) and layer.interpolation != "nearest")
        for layer in model._flatten_layers(include_self=False)
    )


class _GraphRecorder(Recorder):
    def __init__(self, names: Sequence[str], paths: Mapping[int, str]) -> None:
        super().__init__(names, paths)
        self._graph: tf.Graph | None = None
        self._seen: dict[str, tuple[str, tf.Tensor]] = {}

    @contextmanager
    def begin(self, x: Sequence[object]) -> Iterator[None]:
        self._graph = cast("tf.Tensor", x[0]).graph
        yield

    def is_new(self, tensor: object) -> bool:
        if not hasattr(tensor, "op") or cast("tf.Tensor", tensor).graph is not self._graph:
            return False
        return not any(tensor is other for _, other in self._seen.values())

    def add(self, name: str, kind: str, tensor: object) -> None:
        self._seen[name] = kind, cast("tf.Tensor", tensor)

    def tensors(self) -> dict[str, object]:
        return {f"{name}{OF_A_LAYER}": self._seen[name][1] for name in self._names}

    def layers(self) -> list[Layer]:
        maker = {id(tensor.op): name for name, (_, tensor) in self._seen.items()}
        return [
            Layer(name, kind, tuple(tensor.shape), tuple(_before(tensor, maker)))
            for name, (kind, tensor) in self._seen.items()
            if tensor.dtype.is_floating
        ]


def _before(tensor: tf.Tensor, maker: Mapping[int, str]) -> list[str]:
    """The layers whose outputs the operations behind a tensor read."""
    before: dict[str, None] = {}
    waiting, visited = [i.op for i in tensor.op.inputs], set()
    while waiting:
        op = waiting.pop()
        if id(op) in visited:
            continue
        visited.add(id(op))
        if id(op) in maker:
            before[maker[id(op)]] = None
        else:
            waiting += [i.op for i in op.inputs]
    return list(before)
