"""The passes of a Keras model (tensorflow and keras).

Two passes, neither of which changes the model:

* inference: `model(x, training=False)`, what `predict` computes;
* training: the same, but every BatchNormalization layer that is not frozen normalises by the batch's own statistics.
  Dropout and other random layers stay off, so that the difference between the passes is BatchNormalization's alone.

Where a model has random layers there is a third one, what `fit` computes: both BatchNormalization and the random layers in training mode.

Either of the first two also in float64, with the same weights: the distance between the two is what rounding does to this model (`bnexport.results.tolerance`).

`model(x, training=True)` would do neither: it moves the moving statistics at every call and turns dropout on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import BnexportError, InputError, MachineError, reason
from bnexport.frameworks.keras_patch import layer_error, logits_kept, method_replaced, name_scopes_restored
from bnexport.frameworks.keras_paths import layer_paths
from bnexport.frameworks.keras_recorder import OF_A_LAYER, Recorder, recording
from bnexport.frameworks.protocols import Layer
from bnexport.results.actions import spell_options
from bnexport.results.runs import Mode
from bnexport.system.exclusive import PROCESS, exclusive
from bnexport.types import Array

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    from tensorflow.types.experimental import ConcreteFunction

    from bnexport.frameworks.keras_model import LoadedModel
UNTRACED = 2
"""Passes that a small check runs once or twice are not traced before: tracing costs as much as two calls. (The inference pass, which is run most, always is, as by `predict`.)"""


class Passes:
    """The passes of a loaded model. Any batch size goes through the same trace."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._traced: dict[Mode, tuple[ConcreteFunction, list[str]]] = {}
        self._calls: dict[Mode, int] = {}
        self._wide: dict[Mode, tuple[ConcreteFunction, list[str]]] = {}
        self._wide_calls: dict[Mode, int] = {}

    def run(self, mode: Mode, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """One pass over one batch.

        Args:
            mode: "inference" or "training".
            feeds: every input of the model by name, shape (N, ...).

        Returns:
            Every output by name, and `OUTPUT/logits` for each that ends in softmax or sigmoid; shape (N, ...).

        Raises:
            InputError: a layer cannot be run on this batch.
            MachineError: the memory is not enough.
        """
        try:
            return self._ran(mode, feeds)
        except (BnexportError, MemoryError):
            raise
        except Exception as error:  # whatever a layer raises on the values in its configuration
            if type(error).__name__ == "ResourceExhaustedError":
                raise MachineError(
                    "the model requires more memory than is available",
                    found=reason(error)[:200],
                    fix=f"check the sizes in the model, or choose a smaller batch with {spell_options(batch_size=None)}",
                ) from error
            raise InputError(f"Keras cannot run the model ({layer_error(error)})") from error

    def _ran(self, mode: Mode, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self._calls[mode] = self._calls.get(mode, 0) + 1
        if mode == "training" and self._calls[mode] <= UNTRACED:
            return {name: np.asarray(value) for name, value in self._forward(mode, self._given(feeds)).items()}
        if mode not in self._traced:
            self._traced[mode] = self._trace(mode)
        return self._run(self._traced[mode], feeds)

    def run_in_float64(self, mode: Mode, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The same in float64 throughout, with the weights as they are.

        Raises:
            InputError: the model does not compute in float64.
        """
        self._wide_calls[mode] = self._wide_calls.get(mode, 0) + 1
        if self._wide_calls[mode] > UNTRACED:
            if mode not in self._wide:
                self._wide[mode] = self._trace_in(True, mode)
            return self._run(self._wide[mode], feeds)
        try:
            with _float64_policy(self._loaded.keras):
                outputs = self._forward(mode, self._given(feeds))
        except Exception as error:
            raise _no_float64(error) from error
        arrays = {name: np.asarray(value) for name, value in outputs.items()}
        _refuse_narrow({name: value.dtype.name for name, value in arrays.items() if value.dtype.kind == "f"})
        return arrays

    def _run(self, function: tuple[ConcreteFunction, list[str]], feeds: Mapping[str, Array]) -> dict[str, Array]:
        traced, names = function
        return {name: np.asarray(value) for name, value in zip(names, traced(*self._given(feeds)), strict=True)}

    def _given(self, feeds: Mapping[str, Array]) -> list[tf.Tensor]:
        import tensorflow as tf

        return [tf.constant(feeds[t.name], dtype=t.dtype) for t in self._loaded.inputs]

    def random_layers(self) -> list[str]:
        """The layers that compute something else at each call in training mode: those that hold a generator of random numbers and use it."""
        names = []
        for layer in self._loaded.keras._flatten_layers(include_self=False):
            strength = [getattr(layer, name) for name in ("rate", "stddev", "alpha") if hasattr(layer, name)]
            if hasattr(layer, "seed_generator") and (not strength or any(strength)):
                names.append(layer.name)
        return names

    def drawn(self, feeds: Mapping[str, Array], seed: int) -> dict[str, Array]:
        """What `fit` computes in one step, with the random layers' generators started from `seed`; the model is not changed."""
        outputs = self._forward("training", self._given(feeds), seed=seed)
        return {name: np.asarray(value) for name, value in outputs.items()}

    def layers(
        self, mode: Mode, feeds: Mapping[str, Array], *, float64: bool = False, most_bytes: int = 512 << 20
    ) -> Iterator[tuple[Layer, Array]]:
        """What every layer computes in one pass over one batch, in order, the layers of nested models included.

        Args:
            mode: "inference" or "training".
            feeds: every input of the model by name, shape (N, ...).
            float64: as in `run_in_float64`.
            most_bytes: at most so much is computed at a time; a model that needs more is traced again for each part.

        Raises:
            InputError: float64 was asked for, and the model does not compute in it.
        """
        paths = layer_paths(self._loaded.keras)
        listing = Recorder((), paths)
        self._trace_in(float64, mode, listing)
        layers = {layer.name: layer for layer in listing.layers()}
        images, width = len(next(iter(feeds.values()))), 8 if float64 else 4
        parts: list[list[str]] = [[]]
        size = 0
        for layer in layers.values():
            more = images * math.prod(side or 1 for side in layer.shape[1:]) * width
            if size and size + more > most_bytes:
                parts.append([])
                size = 0
            size += more
            parts[-1].append(layer.name)
        for part in parts:
            traced, names = self._trace_in(float64, mode, Recorder(part, paths))
            results = dict(zip(names, traced(*self._given(feeds)), strict=True))
            for name in part:
                yield layers[name], np.asarray(results.pop(f"{name}{OF_A_LAYER}"))

    @exclusive
    @name_scopes_restored()
    def _forward(
        self, mode: Mode, x: Sequence[tf.Tensor], *, recorder: Recorder | None = None, seed: int | None = None
    ) -> dict[str, tf.Tensor]:
        """One pass as TensorFlow operations, traced or not; with a `seed` the random layers are on."""
        import keras

        model = self._loaded.keras
        if recorder is not None:
            recorder.graph = x[0].graph
        structure = getattr(model, "_inputs_struct", None)
        packed = keras.tree.pack_sequence_as(structure, list(x)) if structure is not None else x[0]
        train = [v.value for v in model.trainable_variables]
        fixed = [
            keras.ops.cast([number, seed], v.dtype)
            if seed is not None and v.path.endswith("seed_generator_state")
            else v.value
            for number, v in enumerate(model.non_trainable_variables)
        ]
        with _batch_statistics(enabled=mode == "training"), logits_kept(), recording(recorder):
            y, _ = model.stateless_call(train, fixed, packed, training=seed is not None)
        outputs = dict(zip(self._loaded.outputs, keras.tree.flatten(y), strict=True))
        # Keras keeps what it fed to softmax or sigmoid (keras.activations.softmax).
        logits = {f"{n}/logits": t._keras_logits for n, t in outputs.items() if hasattr(t, "_keras_logits")}
        return {**outputs, **logits, **(recorder.tensors() if recorder else {})}

    @exclusive
    def _trace(self, mode: Mode, recorder: Recorder | None = None) -> tuple[ConcreteFunction, list[str]]:
        import tensorflow as tf

        names: list[str] = []

        def forward(*x: tf.Tensor) -> list[tf.Tensor]:
            outputs = self._forward(mode, x, recorder=recorder)
            names[:] = outputs
            return list(outputs.values())

        signature = [tf.TensorSpec(t.shape, t.dtype) for t in self._loaded.keras.inputs]
        traced = tf.function(forward, input_signature=signature, autograph=False).get_concrete_function()
        return traced, names

    def _trace_in(
        self, float64: bool, mode: Mode, recorder: Recorder | None = None
    ) -> tuple[ConcreteFunction, list[str]]:
        if not float64:
            return self._trace(mode, recorder)
        try:
            with _float64_policy(self._loaded.keras):
                traced, names = self._trace(mode, recorder)
        except Exception as error:
            raise _no_float64(error) from error
        _refuse_narrow({name: t.dtype for name, t in zip(names, traced.outputs, strict=True) if t.dtype.is_floating})
        return traced, names


def _no_float64(error: Exception) -> InputError:
    return InputError(f"the model cannot compute in float64 ({reason(error)[:200]})")


def _refuse_narrow(dtypes: Mapping[str, str | tf.DType]) -> None:
    narrow = [name for name, dtype in dtypes.items() if dtype != "float64"]
    if narrow:
        raise InputError(f"the model cannot compute in float64: {', '.join(narrow)} uses lower precision")


@contextmanager
def _float64_policy(model: keras.Model) -> Iterator[None]:
    """While open, every layer computes in float64; variables stay what they are and are cast where they are read."""
    from keras.dtype_policies import DTypePolicy

    policy = DTypePolicy("float64")
    policy._variable_dtype = "float32"  # else Keras sees no need to cast, and float32 kernels meet float64 inputs
    layers = [model, *model._flatten_layers(include_self=False)]
    with PROCESS:  # two passes of one model
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

    if not enabled:
        yield
        return

    def call(layer: keras.Layer, inputs: tf.Tensor, training: object = None, mask: object = None) -> tf.Tensor:  # noqa: ARG001 - Keras' signature
        return original(layer, inputs, training=True, mask=mask)

    with method_replaced(BatchNormalization, "call", call) as original:
        yield
