"""What every layer of a Keras model computes, noted while a pass is traced (keras)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bnexport.frameworks.keras_patch import method_replaced
from bnexport.frameworks.protocols import Layer

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

OF_A_LAYER = "/output of the layer"
"""Behind a layer's name: the name its output has among the results of a pass."""


class Recorder:
    """Notes the output of every layer that is no model itself while a pass is traced."""

    def __init__(self, names: Sequence[str], paths: Mapping[int, str]) -> None:
        self._names, self._paths = names, paths
        self.graph: tf.Graph | None = None
        self._seen: dict[str, tuple[str, tf.Tensor]] = {}
        self._calls: dict[str, int] = {}

    def note(self, layer: keras.Layer, output: object) -> None:
        """One call of a layer, and what came of it."""
        import keras

        flat = keras.tree.flatten(output)
        if isinstance(layer, keras.Model) or not flat or not hasattr(flat[0], "op"):
            return
        if flat[0].graph is not self.graph:
            return  # inside a loop
        if any(flat[0] is tensor for _, tensor in self._seen.values()):
            return  # a layer that hands its input on, or the last of a nested layer
        path = self._paths.get(id(layer), layer.name)
        self._calls[path] = nth = self._calls.get(path, 0) + 1
        self._seen[path if nth == 1 else f"{path}#{nth}"] = type(layer).__name__, flat[0]

    def tensors(self) -> dict[str, tf.Tensor]:
        """The tensors of the layers that were asked for."""
        return {f"{name}{OF_A_LAYER}": self._seen[name][1] for name in self._names}

    def layers(self) -> list[Layer]:
        """Every layer, with the layers whose outputs it reads."""
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


@contextmanager
def recording(recorder: Recorder | None) -> Iterator[None]:
    """While open, every call of a layer is noted."""
    from keras.layers import Layer as KerasLayer

    if recorder is None:
        yield
        return

    def call(layer: keras.Layer, *args: object, **kwargs: object) -> object:
        output = original(layer, *args, **kwargs)
        recorder.note(layer, output)
        return output

    with method_replaced(KerasLayer, "__call__", call) as original:
        yield
