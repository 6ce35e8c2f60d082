"""How a deployed file takes what the Keras model takes, and gives what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from bnexport.comparison.sides import Feeds
from bnexport.datasets.preprocess import rescale
from bnexport.errors import InputError
from bnexport.results.preprocessing import Preprocessing, Scaling
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
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    moved_in: frozenset[str] = frozenset()
    moved_out: frozenset[str] = frozenset()
    batch: int | None = None
    pixels: Mapping[str, Preprocessing | None] = field(default_factory=dict)
    differences: tuple[str, ...] = field(default=())
    signed: frozenset[str] = frozenset()

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
            pixels = np.clip(np.rint(rescale(x, spec, spec.changed(scaling=Scaling.NONE))), 0, 255)
            return pixels - np.float32(128) if name in self.signed else pixels
        if x.dtype.kind == "f" and not (np.rint(x) == x).all():
            raise InputError(
                f"the input {self.inputs[name]} of the file takes integers, but the inputs of Keras are not integers",
                found="values with a fraction",
                fix="pass images instead of arrays, so that the pixels before scaling are known",
            )
        return x

    def with_channels_moved(self, name: str) -> Interface:
        """The same with the channels of one more input moved, or moved no longer."""
        return replace(self, moved_in=self.moved_in ^ {name})
