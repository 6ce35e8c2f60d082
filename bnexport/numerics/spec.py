"""The preprocessing specification: what happens between a picture's pixels and a model's input.

It is data only (no NumPy), so that the command line can offer its choices without loading anything.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any

from bnexport.errors import InputError


class Resize(StrEnum):
    """A resize kernel, named by whose pixels it reproduces."""

    PIL_NEAREST = "pil-nearest"
    PIL_BILINEAR = "pil-bilinear"
    PIL_BICUBIC = "pil-bicubic"
    PIL_LANCZOS = "pil-lanczos"


class Scaling(StrEnum):
    """How grey levels 0-255 become the numbers a model sees."""

    NONE = "none"
    """raw 0-255"""
    UNIT = "unit"
    """x / 255"""
    MINUS_ONE_ONE = "minus-one-one"
    """x / 127.5 - 1"""
    CAFFE = "caffe"
    """RGB to BGR, minus the ImageNet mean, no division (keras.applications.imagenet_utils, mode "caffe")"""
    TORCH = "torch"
    """x / 255, minus the ImageNet mean, divided by the ImageNet standard deviation (same source, mode "torch")"""


class Layout(StrEnum):
    """Where the channels stand in a batch of images."""

    NHWC = "NHWC"
    NCHW = "NCHW"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """One complete specification. It travels with the model: in a sidecar file and in every ONNX file written.

    Args:
        size: height and width in pixels.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        resize: the kernel that brings a picture to `size` (its sides are stretched independently).
        scaling: what is done to the grey levels.
        layout: the order of the axes of a batch.
    """

    size: tuple[int, int]
    channels: int = 1
    resize: Resize = Resize.PIL_LANCZOS
    scaling: Scaling = Scaling.NONE
    layout: Layout = Layout.NHWC

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise InputError(
                "the image size is not usable", found=str(self.size), expected="height and width, 1 or more"
            )
        if self.channels not in (1, 3, 4):
            raise InputError("the number of channels is not usable", found=str(self.channels), expected="1, 3 or 4")
        if self.scaling in (Scaling.CAFFE, Scaling.TORCH) and self.channels != 3:
            raise InputError(
                f"scaling {self.scaling} is for colour images", found=f"{self.channels} channels", expected="3"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image in a batch, in the order of `layout`.

        >>> Preprocessing((197, 197)).shape
        (197, 197, 1)
        """
        height, width = self.size
        return (height, width, self.channels) if self.layout == Layout.NHWC else (self.channels, height, width)

    @property
    def described(self) -> str:
        """The specification in words.

        >>> Preprocessing((197, 224)).described
        '197x224, 1 channel, pil-lanczos, scaling none'
        """
        plural = "" if self.channels == 1 else "s"
        return f"{self.size[0]}x{self.size[1]}, {self.channels} channel{plural}, {self.resize}, scaling {self.scaling}"

    def as_dict(self) -> dict[str, Any]:
        """The specification as plain values, for TOML and JSON.

        >>> Preprocessing((197, 197)).as_dict()["resize"]
        'pil-lanczos'
        """
        plain = asdict(self)
        return {**{k: str(v) if isinstance(v, StrEnum) else v for k, v in plain.items()}, "size": list(self.size)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """The specification that `as_dict` wrote.

        Raises:
            InputError: a key is unknown, `size` is missing, or a value is not among the choices.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InputError(
                "a preprocessing specification has an unknown key",
                found=", ".join(unknown),
                expected=", ".join(sorted(known)),
            )
        try:
            return cls(
                size=(int(values["size"][0]), int(values["size"][1])),
                channels=int(values.get("channels", 1)),
                resize=Resize(values.get("resize", Resize.PIL_LANCZOS)),
                scaling=Scaling(values.get("scaling", Scaling.NONE)),
                layout=Layout(values.get("layout", Layout.NHWC)),
            )
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(f"a preprocessing specification cannot be read ({error})", found=str(values)) from error

    def changed(self, **values: Any) -> Preprocessing:
        """The same specification with the given fields replaced; fields given as None stay."""
        return replace(self, **{k: v for k, v in values.items() if v is not None})
