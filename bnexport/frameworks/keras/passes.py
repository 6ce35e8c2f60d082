"""The passes of a Keras model, on any backend (keras, through `keras_backends`).

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
from functools import partial
from typing import TYPE_CHECKING

from bnexport.errors import BnexportError, InputError, MachineError, reason
from bnexport.frameworks.keras.backends import Forward, Tensors, Traced, Weights, open_backend, weights_of
from bnexport.frameworks.keras.file import STRENGTHS
from bnexport.frameworks.keras.float64 import layers_in
from bnexport.frameworks.keras.logits import logits_kept
from bnexport.frameworks.keras.patch import layer_error, method_replaced, name_scopes_restored
from bnexport.frameworks.keras.paths import layer_paths
from bnexport.frameworks.keras.recorder import OF_A_LAYER, Recorder, recording
from bnexport.frameworks.models import is_floating
from bnexport.frameworks.protocols import Layer
from bnexport.results.actions import spell_options
from bnexport.results.runs import Mode
from bnexport.system.exclusive import exclusive
from bnexport.types import Array

if TYPE_CHECKING:
    import keras

    from bnexport.frameworks.keras.model import LoadedModel


EXHAUSTED = ("ResourceExhaustedError", "OutOfMemoryError")
"""What backends raise where the memory is not enough; JAX says it in the message."""


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except (BnexportError, MemoryError):
        raise
    except Exception as error:  # whatever a layer raises on the values in its configuration
        if type(error).__name__ in EXHAUSTED or str(error).startswith("RESOURCE_EXHAUSTED"):
            raise MachineError(
                "the model requires more memory than is available",
                found=reason(error)[:200],
                fix=f"check the sizes in the model, or choose a smaller batch with {spell_options(batch_size=None)}",
            ) from error
        raise InputError(f"Keras cannot run the model ({layer_error(error)})") from error


def _draws(layer: keras.layers.Layer) -> bool:
    """Whether a layer holds a generator of random numbers; layers that augment images name theirs as they like."""
    import keras

    held = vars(layer).values()
    return hasattr(layer, "seed_generator") or any(isinstance(value, keras.random.SeedGenerator) for value in held)


class Passes:
    """The passes of a loaded model."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded, self._backend = loaded, open_backend()
        self._traced: dict[tuple[object, ...], Traced] = {}
        self._calls: dict[tuple[Mode, bool], int] = {}

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
        with _refusing():
            return self._compute(mode, feeds)

    def run_in_float64(self, mode: Mode, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The same in float64 throughout, with the weights as they are.

        Raises:
            InputError: the model does not compute in float64.
        """
        try:
            arrays = self._compute(mode, feeds, float64=True)
        except Exception as error:
            raise _no_float64(error) from error
        return _refuse_narrow(arrays)

    def _compute(self, mode: Mode, feeds: Mapping[str, Array], *, float64: bool = False) -> dict[str, Array]:
        calls = self._calls[mode, float64] = self._calls.get((mode, float64), 0) + 1
        with self._backend.precision(float64=float64):
            x = self._given(feeds)
            if not self._backend.traces(calls, often=mode == "inference" and not float64):  # as `predict` does
                with layers_in(self._loaded.keras, float64=float64):
                    return self._arrays(self._forward(x, weights_of(self._loaded.keras), mode))
            key = (mode, float64, *self._backend.traced_for(self._loaded.keras, x))
            if key not in self._traced:
                self._traced[key] = self._trace(mode, x, float64=float64)
            return self._arrays(self._traced[key](x))

    def _given(self, feeds: Mapping[str, Array]) -> list[object]:
        return [self._backend.tensor(feeds[t.name], t.dtype) for t in self._loaded.inputs]

    def _arrays(self, tensors: Tensors) -> dict[str, Array]:
        return {name: self._backend.array(tensor) for name, tensor in tensors.items()}

    def random_layers(self) -> list[str]:
        """The layers that compute something else at each call in training mode: those that hold a generator of random numbers and use it."""
        names, inside = [], set[int]()  # an augmentation may be made of others
        for layer in self._loaded.keras._flatten_layers(include_self=False):
            strength = [getattr(layer, name) for name in STRENGTHS if hasattr(layer, name)]
            if _draws(layer) and (not strength or any(strength)) and id(layer) not in inside:
                names.append(layer.name)
                inside.update(id(part) for part in layer._flatten_layers(include_self=False))
        return names

    def drawn(self, feeds: Mapping[str, Array], seed: int) -> dict[str, Array]:
        """What `fit` computes in one step, with the random layers' generators started from `seed`; the model is not changed.

        Raises:
            InputError: a layer cannot be run on this batch in training mode.
            MachineError: the memory is not enough.
        """
        with _refusing(), self._backend.precision(float64=False), self._backend.with_seed(seed):
            weights = weights_of(self._loaded.keras)
            return self._arrays(self._forward(self._given(feeds), weights, "training", seed=seed))

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
        paths, model = layer_paths(self._loaded.keras), self._loaded.keras
        listing = self._backend.recorder((), paths)
        with self._record(mode, feeds, listing, float64=float64) as (forward, x):
            self._backend.observe(forward, model, x, listing)
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
            recorder = self._backend.recorder(part, paths)
            with self._record(mode, feeds, recorder, float64=float64) as (forward, x):
                results = self._arrays(self._backend.trace(forward, model, x)(x))
            if float64:
                _refuse_narrow(results)
            for name in part:
                yield layers[name], results.pop(f"{name}{OF_A_LAYER}")

    @contextmanager
    def _record(
        self, mode: Mode, feeds: Mapping[str, Array], recorder: Recorder, *, float64: bool
    ) -> Iterator[tuple[Forward, list[object]]]:
        """A pass of which a recorder takes notes, and what it is given."""

        def forward(x: Sequence[object], weights: Weights) -> Tensors:
            return self._forward(x, weights, mode, recorder=recorder)

        try:
            with self._backend.precision(float64=float64), layers_in(self._loaded.keras, float64=float64):
                yield forward, self._given(feeds)
        except Exception as error:
            if not float64:
                raise
            raise _no_float64(error) from error

    @exclusive
    @name_scopes_restored()
    def _forward(
        self,
        x: Sequence[object],
        weights: Weights,
        mode: Mode,
        *,
        recorder: Recorder | None = None,
        seed: int | None = None,
    ) -> Tensors:
        """One pass as operations of the backend, traced or not; with a `seed` the random layers are on."""
        import keras

        model = self._loaded.keras
        structure = getattr(model, "_inputs_struct", None)
        packed = keras.tree.pack_sequence_as(structure, list(x)) if structure is not None else x[0]
        trained, fixed = weights
        if seed is not None:
            fixed = [
                keras.ops.cast([number, seed], v.dtype) if v.path.endswith("seed_generator_state") else value
                for number, (v, value) in enumerate(zip(model.non_trainable_variables, fixed, strict=True))
            ]
        kept = self._backend.logits()
        with _batch_statistics(enabled=mode == "training"), logits_kept(kept), recording(recorder, x):
            y, _ = model.stateless_call(trained, fixed, packed, training=seed is not None)
        outputs = dict(zip(self._loaded.outputs, keras.tree.flatten(y), strict=True))
        logits = {f"{name}/logits": kept.of(tensor) for name, tensor in outputs.items()}
        behind = {name: tensor for name, tensor in logits.items() if tensor is not None}
        return {**outputs, **behind, **(recorder.tensors() if recorder else {})}

    @exclusive
    def _trace(self, mode: Mode, x: Sequence[object], *, float64: bool) -> Traced:
        with layers_in(self._loaded.keras, float64=float64):
            return self._backend.trace(partial(self._forward, mode=mode), self._loaded.keras, x)


def _no_float64(error: Exception) -> InputError:
    return InputError(f"the model cannot compute in float64 ({reason(error)[:200]})")


def _refuse_narrow(arrays: dict[str, Array]) -> dict[str, Array]:
    narrow = [name for name, array in arrays.items() if is_floating(array.dtype) and array.dtype.name != "float64"]
    if narrow:
        raise InputError(f"the model cannot compute in float64: {', '.join(narrow)} uses lower precision")
    return arrays


@contextmanager
def _batch_statistics(*, enabled: bool) -> Iterator[None]:
    """While open, BatchNormalization layers run in training mode; frozen ones do not, as in Keras itself."""
    from keras.layers import BatchNormalization

    if not enabled:
        yield
        return

    def call(layer: keras.Layer, inputs: object, training: object = None, mask: object = None) -> object:  # noqa: ARG001 - Keras' signature
        return original(layer, inputs, training=True, mask=mask)

    with method_replaced(BatchNormalization, "call", call) as original:
        yield
