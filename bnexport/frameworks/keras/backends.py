"""What Keras computes with: the surface that its backends share, and the class of each (none is imported here)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from bnexport.frameworks.keras.installed import backend_name
from bnexport.types import Array

if TYPE_CHECKING:
    import keras

    from bnexport.frameworks.keras.logits import Logits
    from bnexport.frameworks.keras.recorder import Recorder

Tensors: TypeAlias = "Mapping[str, object]"
"""Tensors of a backend by the name of the output."""

Weights: TypeAlias = "tuple[list[object], list[object]]"
"""The values of a model's trainable variables, and of the others."""

Forward: TypeAlias = "Callable[[Sequence[object], Weights], Tensors]"
"""A pass of a model, in Keras' operations: of its inputs and weights."""

Traced: TypeAlias = "Callable[[Sequence[object]], Tensors]"
"""A pass that is traced: of the inputs alone."""


class Backend(Protocol):
    """A backend of Keras."""

    name: str
    """Keras' name for it."""

    def traces(self, calls: int, *, often: bool) -> bool:
        """Whether a pass is traced at its call of this number, from 1, or computed operation by operation.

        Args:
            calls: how often the pass has been computed, this time included.
            often: whether it is one that checks compute on every batch.
        """
        ...

    def load(self) -> str:
        """Imports its library silently; returns the version.

        Raises:
            ImportError: it is not installed.
        """
        ...

    def precision(self, *, float64: bool) -> AbstractContextManager[None]:
        """While open, tensors may be float64 where that is asked for, and nothing is recorded for gradients."""
        ...

    def with_seed(self, seed: int) -> AbstractContextManager[None]:
        """While open, what draws random numbers without a generator of its own begins with `seed`."""
        ...

    def logits(self) -> Logits:
        """What keeps logits beside softmax and sigmoid in one pass."""
        ...

    def tensor(self, array: Array, dtype: str) -> object:
        """An array as a tensor."""
        ...

    def array(self, tensor: object) -> Array:
        """A tensor as a NumPy array."""
        ...

    def traced_for(self, model: keras.Model, x: Sequence[object]) -> tuple[object, ...]:
        """What a trace of a model depends on besides its mode: the shapes of the inputs, or nothing."""
        ...

    def trace(self, forward: Forward, model: keras.Model, x: Sequence[object]) -> Traced:
        """A pass as one graph, for inputs like `x`."""
        ...

    def recorder(self, names: Sequence[str], paths: Mapping[int, str]) -> Recorder:
        """Notes what layers compute (`bnexport.frameworks.keras.recorder`)."""
        ...

    def observe(self, forward: Forward, model: keras.Model, x: Sequence[object], recorder: Recorder) -> None:
        """Lets a recorder see every layer of a pass, at as little cost as the backend allows."""
        ...


_CLASSES = {
    "tensorflow": "bnexport.frameworks.keras.on_tensorflow:TensorFlow",
    "jax": "bnexport.frameworks.keras.on_jax:Jax",
    "torch": "bnexport.frameworks.keras.on_torch:Torch",
}


def open_backend(name: str = "") -> Backend:
    """The backend of a name; "" for the one on which Keras runs in this process."""
    module, _, kind = _CLASSES[name or backend_name()].partition(":")
    return cast("Backend", getattr(import_module(module), kind)())


def weights_of(model: keras.Model) -> Weights:
    """The values of a model's variables."""
    return [v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables]
