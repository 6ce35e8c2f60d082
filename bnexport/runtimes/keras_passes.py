"""The passes of a Keras model (tensorflow and keras).

Two passes, neither of which changes the model:

* inference: `model(x, training=False)`, what `predict` computes;
* training: the same, but every BatchNormalization layer that is not frozen normalises by the batch's own statistics.
  Dropout and other random layers stay off, so that the difference between the passes is BatchNormalization's alone.

Either also in float64, with the same weights: the distance between the two is what rounding does to this model (`bnexport.numerics.tolerance`).

`model(x, training=True)` would do neither: it moves the moving statistics at every call and turns dropout on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from bnexport.errors import InputError

if TYPE_CHECKING:
    from bnexport.runtimes.keras_model import LoadedModel

Mode = Literal["inference", "training"]
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Layer:
    """One call of a layer.

    Args:
        name: the layer's path; from its second call on with "#2", "#3" and so on behind it.
        kind: its class.
        shape: of its output, None for an open axis.
        inputs: the layers whose outputs it reads.
    """

    name: str
    kind: str
    shape: tuple[int | None, ...]
    inputs: tuple[str, ...]


class Passes:
    """The passes of a loaded model. Tracing happens at the first run of each mode; any batch size goes through the same trace."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._traced: dict[tuple[Mode, bool], tuple[Any, list[str]]] = {}

    def run(self, mode: Mode, feeds: Mapping[str, Array], *, float64: bool = False) -> dict[str, Array]:
        """One pass over one batch.

        Args:
            mode: "inference" or "training".
            feeds: every input of the model by name, shape (N, ...).
            float64: compute in float64 throughout, with the weights as they are.

        Returns:
            Every output by name, and `OUTPUT/logits` for each that ends in softmax or sigmoid; shape (N, ...).

        Raises:
            InputError: float64 was asked for, and the model does not compute in it.
        """
        import tensorflow as tf

        if (mode, float64) not in self._traced:
            self._traced[mode, float64] = self._in_float64(mode) if float64 else self._trace(mode)
        traced, names = self._traced[mode, float64]
        tensors = [tf.constant(feeds[t.name], dtype=t.dtype) for t in self._loaded.inputs]
        return {name: np.asarray(value) for name, value in zip(names, traced(*tensors), strict=True)}

    def layers(
        self, mode: Mode, feeds: Mapping[str, Array], *, float64: bool = False, most_bytes: int = 512 << 20
    ) -> Iterator[tuple[Layer, Array]]:
        """What every layer computes in one pass over one batch, in order, the layers of nested models included.

        Args:
            mode: "inference" or "training".
            feeds: every input of the model by name, shape (N, ...).
            float64: as in `run`.
            most_bytes: at most so much is computed at a time; a model that needs more is traced again for each part.

        Raises:
            InputError: float64 was asked for, and the model does not compute in it.
        """
        import tensorflow as tf

        tensors = [tf.constant(feeds[t.name], dtype=t.dtype) for t in self._loaded.inputs]
        trace = self._in_float64 if float64 else self._trace
        first = _Recorder(())
        trace(mode, first)
        found = first.found()
        images = len(next(iter(feeds.values())))
        parts: list[list[str]] = [[]]
        size = 0
        for layer in found:
            values = images * math.prod(side or 1 for side in layer.shape[1:])
            if size and size + values * (8 if float64 else 4) > most_bytes:
                parts.append([])
                size = 0
            size += values * (8 if float64 else 4)
            parts[-1].append(layer.name)
        by_name = {layer.name: layer for layer in found}
        for part in parts:
            traced, names = trace(mode, _Recorder(part))
            results = dict(zip(names, traced(*tensors), strict=True))
            for name in part:
                yield by_name[name], np.asarray(results.pop(f"{name}{_OF_A_LAYER}"))

    def _in_float64(self, mode: Mode, recorder: _Recorder | None = None) -> tuple[Any, list[str]]:
        import tensorflow as tf

        try:
            with _float64_policy(self._loaded.keras):
                traced, names = self._trace(mode, recorder)
        except Exception as error:
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise InputError(f"the model does not compute in float64 ({reason[:200]})") from error
        outputs = zip(names, traced.get_concrete_function().outputs, strict=True)
        narrow = [name for name, tensor in outputs if tensor.dtype.is_floating and tensor.dtype != tf.float64]
        if narrow:
            raise InputError(f"the model does not compute in float64: {', '.join(narrow)} stays in lower precision")
        return traced, names

    def _trace(self, mode: Mode, recorder: _Recorder | None = None) -> tuple[Any, list[str]]:
        import keras
        import tensorflow as tf

        model = self._loaded.keras
        names: list[str] = []

        def forward(*x: Any) -> list[Any]:
            structure = getattr(model, "_inputs_struct", None)
            packed = keras.tree.pack_sequence_as(structure, list(x)) if structure is not None else x[0]
            train, fixed = (
                [v.value for v in group] for group in (model.trainable_variables, model.non_trainable_variables)
            )
            with _batch_statistics(enabled=mode == "training"), _recording(recorder):
                y, _ = model.stateless_call(train, fixed, packed, training=False)
            outputs = dict(zip(self._loaded.outputs, keras.tree.flatten(y), strict=True))
            # Keras keeps what it fed to softmax or sigmoid (keras.activations.softmax).
            logits = {f"{n}/logits": t._keras_logits for n, t in outputs.items() if hasattr(t, "_keras_logits")}
            inner = recorder.wanted() if recorder else {}
            names[:] = [*outputs, *logits, *inner]
            return [*outputs.values(), *logits.values(), *inner.values()]

        signature = [tf.TensorSpec(t.shape, t.dtype) for t in model.inputs]
        traced = tf.function(forward, input_signature=signature, autograph=False)
        traced.get_concrete_function()
        return traced, names


_OF_A_LAYER = "/output of the layer"


class _Recorder:
    """Notes the output of every layer that is no model itself while a pass is traced."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._seen: dict[str, tuple[str, Any]] = {}
        self._calls: dict[str, int] = {}

    def note(self, layer: Any, output: Any) -> None:
        import keras

        flat = keras.tree.flatten(output)
        if isinstance(layer, keras.Model) or not flat or not hasattr(flat[0], "op"):
            return
        if any(flat[0] is tensor for _, tensor in self._seen.values()):
            return  # a layer that hands its input on, or the last of a nested layer
        path = layer.path or layer.name  # layers that were never built have no path
        self._calls[path] = nth = self._calls.get(path, 0) + 1
        self._seen[path if nth == 1 else f"{path}#{nth}"] = type(layer).__name__, flat[0]

    def wanted(self) -> dict[str, Any]:
        """The tensors of the layers that were asked for."""
        return {f"{name}{_OF_A_LAYER}": self._seen[name][1] for name in self._names}

    def found(self) -> list[Layer]:
        """Every layer, with the layers whose outputs it reads."""
        maker = {id(tensor.op): name for name, (_, tensor) in self._seen.items()}
        return [
            Layer(name, kind, tuple(tensor.shape), tuple(_before(tensor, maker)))
            for name, (kind, tensor) in self._seen.items()
            if tensor.dtype.is_floating
        ]


def _before(tensor: Any, maker: Mapping[int, str]) -> list[str]:
    """The layers whose outputs the operations behind a tensor read."""
    found: dict[str, None] = {}
    waiting, visited = [i.op for i in tensor.op.inputs], set()
    while waiting:
        op = waiting.pop()
        if id(op) in visited:
            continue
        visited.add(id(op))
        if id(op) in maker:
            found[maker[id(op)]] = None
        else:
            waiting += [i.op for i in op.inputs]
    return list(found)


@contextmanager
def _recording(recorder: _Recorder | None) -> Iterator[None]:
    from keras.layers import Layer as KerasLayer

    if recorder is None:
        yield
        return
    original = KerasLayer.__call__

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        output = original(layer, *args, **kwargs)
        recorder.note(layer, output)
        return output

    KerasLayer.__call__ = call
    try:
        yield
    finally:
        KerasLayer.__call__ = original


@contextmanager
def _float64_policy(model: Any) -> Iterator[None]:
    """While open, every layer computes in float64; variables stay what they are and are cast where they are read."""
    from keras.dtype_policies import DTypePolicy

    policy = DTypePolicy("float64")
    policy._variable_dtype = "float32"  # else Keras sees no need to cast, and float32 kernels meet float64 inputs
    layers = [model, *model._flatten_layers(include_self=False)]
    before = [layer._dtype_policy for layer in layers]
    try:
        for layer in layers:
            layer._dtype_policy = policy
        yield
    finally:
        for layer, old in zip(layers, before, strict=True):
            layer._dtype_policy = old


@contextmanager
def _batch_statistics(*, enabled: bool) -> Iterator[None]:
    """While open, BatchNormalization layers run in training mode; frozen ones do not, as in Keras itself."""
    from keras.layers import BatchNormalization

    original = BatchNormalization.call

    def call(layer: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:  # noqa: ARG001 - Keras' signature
        return original(layer, inputs, training=True, mask=mask)

    if enabled:
        BatchNormalization.call = call
    try:
        yield
    finally:
        BatchNormalization.call = original
