"""PyTorch as a backend of Keras: passes are computed operation by operation (torch)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, cast

from bnexport.frameworks.keras.backends import Forward, Traced, weights_of
from bnexport.frameworks.keras.logits import KeptByKeras
from bnexport.frameworks.keras.recorder import OF_A_LAYER, Recorder
from bnexport.frameworks.protocols import Layer
from bnexport.frameworks.torch.marks import BEHIND, LAYER, marks
from bnexport.types import Array

if TYPE_CHECKING:
    import keras
    import torch


class Torch:
    """The backend `torch`."""

    name = "torch"

    def traces(self, calls: int, *, often: bool) -> bool:  # noqa: ARG002 - always the same
        """Nothing is traced."""
        return False

    def load(self) -> str:
        """Imports PyTorch."""
        import torch

        return str(torch.__version__)

    def precision(self, *, float64: bool) -> AbstractContextManager[None]:  # noqa: ARG002 - it has all types, always
        """Gradients are off."""
        import torch

        return cast("AbstractContextManager[None]", torch.no_grad())

    @contextmanager
    def with_seed(self, seed: int) -> Iterator[None]:
        """Dropout without a seed draws from PyTorch's own generator (keras.src.backend.torch.random)."""
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield

    def logits(self) -> KeptByKeras:
        """Tensors take attributes."""
        return KeptByKeras()

    def tensor(self, array: Array, dtype: str) -> object:
        """A tensor on the device that Keras computes on."""
        import keras

        return keras.ops.convert_to_tensor(array, dtype=dtype)

    def array(self, tensor: object) -> Array:
        """A copy on the host."""
        import keras

        return cast(Array, keras.ops.convert_to_numpy(tensor))

    def traced_for(self, model: keras.Model, x: Sequence[object]) -> tuple[object, ...]:  # noqa: ARG002 - nothing is traced
        """Nothing is traced."""
        return ()

    def trace(self, forward: Forward, model: keras.Model, x: Sequence[object]) -> Traced:  # noqa: ARG002 - nothing is traced
        """The pass itself."""
        return lambda inputs: forward(inputs, weights_of(model))

    def recorder(self, names: Sequence[str], paths: Mapping[int, str]) -> Recorder:
        """Marks tensors with the layers they come from."""
        return _MarkingRecorder(names, paths)

    def observe(self, forward: Forward, model: keras.Model, x: Sequence[object], recorder: Recorder) -> None:  # noqa: ARG002 - `forward` has it
        """Computes the pass once."""
        forward(x, weights_of(model))


class _MarkingRecorder(Recorder):
    def __init__(self, names: Sequence[str], paths: Mapping[int, str]) -> None:
        super().__init__(names, paths)
        self._items = 0
        self._layers: list[Layer] = []
        self._kept: dict[str, object] = {}

    @contextmanager
    def begin(self, x: Sequence[object]) -> Iterator[None]:
        self._items = cast("torch.Tensor", x[0]).shape[0]
        with marks():
            yield

    def is_new(self, tensor: object) -> bool:
        import torch

        return isinstance(tensor, torch.Tensor) and not hasattr(tensor, LAYER)

    def add(self, name: str, kind: str, tensor: object) -> None:
        value = cast("torch.Tensor", tensor)
        if value.is_floating_point():
            shape = tuple(value.shape)
            shown = (None, *shape[1:]) if shape[:1] == (self._items,) else shape
            self._layers.append(Layer(name, kind, shown, tuple(getattr(value, BEHIND, {}))))
        setattr(value, LAYER, name)
        setattr(value, BEHIND, {name: None})
        if name in self._names:
            self._kept[f"{name}{OF_A_LAYER}"] = value

    def tensors(self) -> dict[str, object]:
        return self._kept

    def layers(self) -> list[Layer]:
        return self._layers
