"""How a deployed file takes what the Keras model takes, and gives what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from bnexport.comparison.selected import join_parts
from bnexport.comparison.sides import ComputeTensors, Feeds, Outputs
from bnexport.datasets.preprocess import rescale
from bnexport.errors import InputError
from bnexport.results.heads import Selection
from bnexport.results.preprocessing import Order, Preprocessing, Scaling
from bnexport.types import Array


@dataclass(frozen=True, slots=True)
class Interface:
    """How a file takes what the Keras model takes, and gives what it gives.

    Args:
        inputs: the file's name of each Keras input.
        outputs: the file's name of each Keras output.
        moved_in: Keras inputs whose channels stand last in Keras and first in the file.
        moved_out: the same for outputs.
        batch: the batch size that the file is fixed to; None where it takes any.
        pixels: Keras inputs that the file takes as integers, with how the images are prepared for Keras; None where that is not known.
        differences: what is otherwise than in Keras, in words.
        signed: those of `pixels` that the file takes as int8: the pixels minus 128.
        order: the order of the color channels of `pixels`, where the file states it; None for that of Keras.
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    moved_in: frozenset[str] = frozenset()
    moved_out: frozenset[str] = frozenset()
    batch: int | None = None
    pixels: Mapping[str, Preprocessing | None] = field(default_factory=dict)
    differences: tuple[str, ...] = field(default=())
    signed: frozenset[str] = frozenset()
    order: Order | None = None

    def given(self, feeds: Feeds) -> dict[str, Array]:
        """A batch as the file takes it.

        Raises:
            InputError: the file takes pixels, and the batch holds something else.
        """
        unscaled = {name: self._unscale(name, x) if name in self.pixels else x for name, x in feeds.items()}
        return {
            self.inputs[name]: np.moveaxis(x, -1, 1) if name in self.moved_in else x for name, x in unscaled.items()
        }

    def _unscale(self, name: str, x: Array) -> Array:
        """The pixels before scaling."""
        spec = self.pixels[name]
        if spec is not None:
            pixels = np.clip(np.rint(rescale(x, spec, spec.changed(scaling=Scaling.NONE, order=self.order))), 0, 255)
            return pixels - np.float32(128) if name in self.signed else pixels
        if x.dtype.kind == "f" and not (np.rint(x) == x).all():
            raise InputError(
                f"the input {self.inputs[name]} of the file takes integers, but the inputs of the model are not integers",
                found="values with a fraction",
                fix="pass images instead of arrays, so that the pixels before scaling are known",
            )
        return x

    def with_channels_moved(self, name: str) -> Interface:
        """The same with the channels of one more input moved, or moved no longer."""
        return replace(self, moved_in=self.moved_in ^ {name})

    def calling(
        self,
        names: Mapping[str, str],
        dtypes: Mapping[str, np.dtype[np.generic]],
        rows: Mapping[str, Selection],
        title: str,
    ) -> Callable[[ComputeTensors], Callable[[Feeds], Outputs]]:
        """What makes of a function that computes the file's tensors one that takes and gives what the model does.

        Args:
            names: the file's tensor for each name that a check gives it.
            dtypes: what the model's outputs are made of, by these names.
            rows: the tensors whose number of rows depends on the data.
            title: what messages call the file.
        """

        def over(run: ComputeTensors) -> Callable[[Feeds], Outputs]:
            def compute(feeds: Feeds) -> Outputs:
                parts = _parts(self.given(feeds), self.batch)
                outputs = [run(part, list(names.values())) for part in parts]
                count = len(next(iter(feeds.values())))
                size = self.batch or count
                given = [{name: part[tensor] for name, tensor in names.items() if tensor in part} for part in outputs]
                selected = join_parts(given, rows, size, count, title)
                joined = selected | {
                    name: _join([part[name] for part in given], count, size)
                    for name in given[0]
                    if name not in selected
                }
                return {
                    name: _as_float(np.moveaxis(x, 1, -1) if name in self.moved_out else x, dtypes.get(name))
                    for name, x in joined.items()
                }

            return compute

        return over


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file that is not ONNX, and that a runtime has opened.

    Args:
        interface: how it is called.
        inner: the tensors of floating point numbers inside of it, in the order in which they are made; empty where they cannot be read.
        compute: the tensors of these names for a batch.
        kernels: reads its kernels, in the layout of Keras, by their tensors; none where they cannot be read.
    """

    interface: Interface
    inner: tuple[str, ...]
    compute: ComputeTensors
    kernels: Callable[[], Mapping[str, Array]] = dict


def _join(parts: list[Array], count: int, size: int) -> Array:
    """An output of all parts of a batch, each of `size` items; of what was filled up to that size, `count` items are kept."""
    if len(parts) == 1 and (not parts[0].ndim or len(parts[0]) <= count or size == count):
        return parts[0]
    if not parts[0].ndim:
        return np.stack(parts)
    return np.concatenate(parts)[:count]


def _as_float(x: Array, wanted: np.dtype[np.generic] | None) -> Array:
    """Values of one float type as another, which the interface's differences say."""
    return x.astype(wanted) if wanted is not None and x.dtype != wanted and x.dtype.kind == wanted.kind == "f" else x


def _parts(feeds: Feeds, batch: int | None) -> list[dict[str, Array]]:
    """The batch in parts of the size the file is fixed to; the last part is filled up with its last image."""
    if batch is None:
        return [dict(feeds)]
    count = len(next(iter(feeds.values())))
    rows = [np.minimum(np.arange(start, start + batch), count - 1) for start in range(0, count, batch)]
    return [{name: x[part] for name, x in feeds.items()} for part in rows]
