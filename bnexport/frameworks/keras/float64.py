"""A Keras model in float64, with the weights that it has (keras)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bnexport.frameworks.keras.patch import float64_promoted, method_replaced
from bnexport.system.exclusive import PROCESS

if TYPE_CHECKING:
    import keras
    from keras.dtype_policies import DTypePolicy


@contextmanager
def layers_in(model: keras.Model, *, float64: bool) -> Iterator[None]:
    """While open, every layer computes in float64 where that is asked for; variables stay what they are and are cast where they are read.

    Weights that are quantised stay so: what they are multiplied by is what becomes float64.
    """
    if not float64:
        yield
        return
    layers = [model, *model._flatten_layers(include_self=False)]
    with PROCESS, float64_promoted(), _inputs_not_narrowed():  # two passes of one model
        before = [(layer._dtype_policy, layer.autocast) for layer in layers]
        try:
            for layer in layers:
                layer._dtype_policy = _widened(layer._dtype_policy)
                layer.autocast = (
                    True  # normalisations keep the float32 of the model's inputs otherwise, and compute in it
                )
            yield
        finally:
            for layer, (old, autocast) in zip(layers, before, strict=True):
                layer._dtype_policy, layer.autocast = old, autocast


def _widened(policy: DTypePolicy) -> DTypePolicy:
    """A policy that computes in float64, quantised where the given one is."""
    from keras.dtype_policies import DTypePolicy

    wide = copy.copy(policy) if getattr(policy, "quantization_mode", None) is not None else DTypePolicy("float64")
    wide._compute_dtype = "float64"
    wide._variable_dtype = "float32"  # else Keras sees no need to cast, and float32 kernels meet float64 inputs
    return wide


@contextmanager
def _inputs_not_narrowed() -> Iterator[None]:
    """While open, models hand on their inputs in float64; else operations that are no layers compute in the type that an input states."""
    import keras
    from keras.src.models import Functional

    def convert(model: keras.Model, flat_inputs: Sequence[object]) -> list[object]:
        tensors: list[keras.KerasTensor | None] = original(model, flat_inputs)
        return [
            keras.ops.cast(x, "float64") if x is not None and keras.backend.is_float_dtype(x.dtype) else x
            for x in tensors
        ]

    with method_replaced(Functional, "_convert_inputs_to_tensors", convert) as original:
        yield
