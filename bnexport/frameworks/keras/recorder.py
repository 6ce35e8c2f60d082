"""What every layer of a Keras model computes, noted while a pass is computed (keras)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bnexport.frameworks.keras.patch import method_replaced
from bnexport.frameworks.protocols import Layer

if TYPE_CHECKING:
    import keras

OF_A_LAYER = "/output of the layer"
"""Behind a layer's name: the name its output has among the results of a pass."""


class Recorder(ABC):
    """Notes the output of every layer that is no model itself during one pass; each backend has its own kind.

    Args:
        names: the layers whose outputs are wanted.
        paths: the paths of the model's layers by their ids (`layer_paths`).
    """

    def __init__(self, names: Sequence[str], paths: Mapping[int, str]) -> None:
        self._names, self._paths = names, paths
        self._calls: dict[str, int] = {}
        self._around: list[keras.Layer] = []
        """The layers whose calls have begun and not ended."""

    @contextmanager
    def inside(self, layer: keras.Layer) -> Iterator[None]:
        """While open, the layer is called."""
        self._around.append(layer)
        try:
            yield
        finally:
            self._around.pop()

    def note(self, layer: keras.Layer, output: object) -> None:
        """One call of a layer, and what came of it."""
        import keras
        from keras.layers import RNN, TimeDistributed

        if any(isinstance(each, RNN | TimeDistributed) for each in self._around):
            return  # one step of a loop, which on some backends is no part of the pass itself
        flat = keras.tree.flatten(output)
        if isinstance(layer, keras.Model) or not flat or not self.is_new(flat[0]):
            return
        path = self._paths.get(id(layer), layer.name)
        self._calls[path] = nth = self._calls.get(path, 0) + 1
        self.add(path if nth == 1 else f"{path}#{nth}", type(layer).__name__, flat[0])

    @contextmanager
    def begin(self, x: Sequence[object]) -> Iterator[None]:  # noqa: ARG002 - some kinds go by the inputs
        """While open, a pass over `x` is computed."""
        yield

    @abstractmethod
    def is_new(self, tensor: object) -> bool:
        """Whether a tensor belongs to the pass itself and is no other layer's output.

        It is another's where a layer hands its input on, or is the last one inside another.
        """

    @abstractmethod
    def add(self, name: str, kind: str, tensor: object) -> None:
        """Notes the output of a layer of this class."""

    @abstractmethod
    def tensors(self) -> dict[str, object]:
        """The tensors of the layers that were asked for, under their names and `OF_A_LAYER`."""

    @abstractmethod
    def layers(self) -> list[Layer]:
        """Every layer, with the layers whose outputs it reads."""


@contextmanager
def recording(recorder: Recorder | None, x: Sequence[object]) -> Iterator[None]:
    """While open, every call of a layer is noted."""
    from keras.layers import Layer as KerasLayer

    if recorder is None:
        yield
        return

    def call(layer: keras.Layer, *args: object, **kwargs: object) -> object:
        with recorder.inside(layer):
            output = original(layer, *args, **kwargs)
        recorder.note(layer, output)
        return output

    with method_replaced(KerasLayer, "__call__", call) as original, recorder.begin(x):
        yield
