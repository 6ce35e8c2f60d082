"""The preprocessing specification: what happens between a picture's pixels and a model's input.

It is data only (no NumPy), so that the command line can offer its choices without loading anything.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any

from bnexport.errors import InputError

MOST_PIXELS = 1 << 26
"""The most pixels that an image is brought to: 8192 x 8192."""


class Resize(StrEnum):
    """A resize kernel, named by whose pixels it reproduces."""

    PIL_NEAREST = "pil-nearest"
    PIL_BILINEAR = "pil-bilinear"
    PIL_BICUBIC = "pil-bicubic"
    PIL_LANCZOS = "pil-lanczos"
    PIL_BOX = "pil-box"
    PIL_HAMMING = "pil-hamming"
    TF_BILINEAR = "tf-bilinear"
    """`tf.image.resize(..., "bilinear")`: four neighbours, no antialiasing, not rounded (image_dataset_from_directory's default)"""
    TF_NEAREST = "tf-nearest"
    """`tf.image.resize(..., "nearest")`"""

    @property
    def rounds(self) -> bool:
        """Whether it gives whole grey levels."""
        return self != Resize.TF_BILINEAR


class Fit(StrEnum):
    """How a picture of another aspect ratio is brought to the size."""

    STRETCH = "stretch"
    """its sides are stretched independently"""
    CROP = "crop"
    """its centre is cut out (keras.utils.image_dataset_from_directory with crop_to_aspect_ratio=True)"""
    PAD = "pad"
    """it is put on a black ground (the same with pad_to_aspect_ratio=True)"""


class Order(StrEnum):
    """The order of the colour channels."""

    RGB = "rgb"
    BGR = "bgr"


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
    MINUS_128 = "minus-128"
    """x - 128, for inputs of int8"""
    MEAN_STD = "mean-std"
    """x / 255, minus a mean, divided by a standard deviation, both given"""


class Arithmetic(StrEnum):
    """A step of a scaling."""

    DIVIDE = "divide"
    SUBTRACT = "subtract"


_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
_TORCH_MEAN = (0.485, 0.456, 0.406)
_TORCH_STD = (0.229, 0.224, 0.225)


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
        resize: the kernel that brings a picture to `size`.
        scaling: what is done to the grey levels.
        layout: the order of the axes of a batch.
        fit: what becomes of a picture of another aspect ratio.
        order: the order of the colour channels; scaling "caffe" reverses it itself.
        mean: for scaling "mean-std", on a scale of 0 to 1; one number, or one for each channel in the order of `order`.
        std: the same.
    """

    size: tuple[int, int]
    channels: int = 1
    resize: Resize = Resize.PIL_LANCZOS
    scaling: Scaling = Scaling.NONE
    layout: Layout = Layout.NHWC
    fit: Fit = Fit.STRETCH
    order: Order = Order.RGB
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise InputError(
                "the image size is invalid", found=str(self.size), expected="a height and a width of at least 1"
            )
        if self.size[0] * self.size[1] > MOST_PIXELS:
            raise InputError(
                "the image size is too large",
                found="x".join(map(str, self.size)),
                expected=f"at most {MOST_PIXELS:,} pixels",
            )
        if self.channels not in (1, 3, 4):
            raise InputError("the number of channels is invalid", found=str(self.channels), expected="1, 3 or 4")
        if self.scaling in (Scaling.CAFFE, Scaling.TORCH) and self.channels != 3:
            raise InputError(
                f"scaling {self.scaling} requires color images",
                found=f"{self.channels} channels",
                expected="3 channels",
            )
        if self.order == Order.BGR and (self.channels != 3 or self.scaling == Scaling.CAFFE):
            raise InputError(
                "channel order bgr requires color images and another scaling than caffe, which reverses the channels itself",
                found=f"{self.channels} channels, scaling {self.scaling}",
            )
        if self.scaling == Scaling.MEAN_STD:
            if any(len(v) not in (1, self.channels) for v in (self.mean, self.std)) or not all(v > 0 for v in self.std):
                raise InputError(
                    "scaling mean-std requires a mean and a standard deviation on a scale of 0 to 1",
                    found=f"mean {list(self.mean)}, std {list(self.std)}",
                    expected=f"one number each, or {self.channels}",
                )
        elif self.mean or self.std:
            raise InputError(
                f"mean and std cannot be combined with scaling {self.scaling}", expected="scaling mean-std"
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
    def steps(self) -> tuple[tuple[Arithmetic, tuple[float, ...]], ...]:
        """What is done to grey levels 0-255 one after another, with one number, or one for each channel as they stand then.

        >>> [(str(step), by) for step, by in Preprocessing((1, 1), scaling=Scaling.MINUS_ONE_ONE).steps]
        [('divide', (127.5,)), ('subtract', (1.0,))]
        """
        divide, subtract = Arithmetic.DIVIDE, Arithmetic.SUBTRACT
        match self.scaling:
            case Scaling.NONE:
                return ()
            case Scaling.UNIT:
                return ((divide, (255.0,)),)
            case Scaling.MINUS_ONE_ONE:
                return (divide, (127.5,)), (subtract, (1.0,))
            case Scaling.MINUS_128:
                return ((subtract, (128.0,)),)
            case Scaling.CAFFE:
                return ((subtract, _CAFFE_MEAN_BGR),)
            case Scaling.TORCH:
                return (divide, (255.0,)), (subtract, _TORCH_MEAN), (divide, _TORCH_STD)
            case Scaling.MEAN_STD:
                return (divide, (255.0,)), (subtract, self.mean), (divide, self.std)

    @property
    def gives_bgr(self) -> bool:
        """Whether the model sees the channels in the order B G R."""
        return self.order == Order.BGR or self.scaling == Scaling.CAFFE

    @property
    def described(self) -> str:
        """The specification in words.

        >>> Preprocessing((197, 224)).described
        '197x224, 1 channel, pil-lanczos, scaling none'
        """
        plural = "" if self.channels == 1 else "s"
        fit = "" if self.fit == Fit.STRETCH else f" ({self.fit})"
        order = "" if self.order == Order.RGB else f", {self.order}"
        return f"{self.size[0]}x{self.size[1]}{fit}, {self.channels} channel{plural}{order}, {self.resize}, scaling {self.scaling}"

    def as_dict(self) -> dict[str, Any]:
        """The specification as plain values, for TOML and JSON.

        >>> Preprocessing((197, 197)).as_dict()["resize"]
        'pil-lanczos'
        """
        plain = {
            key: str(value) if isinstance(value, StrEnum) else list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }
        return {key: value for key, value in plain.items() if value != []}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """The specification that `as_dict` wrote.

        Raises:
            InputError: a key is unknown, `size` is missing, or a value is not among the choices.
        """
        names = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - names):
            raise InputError(
                "the preprocessing specification has an unknown key",
                found=", ".join(unknown),
                expected=", ".join(sorted(names)),
            )
        try:
            return cls(
                size=(int(values["size"][0]), int(values["size"][1])),
                channels=int(values.get("channels", 1)),
                resize=Resize(values.get("resize", Resize.PIL_LANCZOS)),
                scaling=Scaling(values.get("scaling", Scaling.NONE)),
                layout=Layout(values.get("layout", Layout.NHWC)),
                fit=Fit(values.get("fit", Fit.STRETCH)),
                order=Order(values.get("order", Order.RGB)),
                mean=tuple(float(v) for v in values.get("mean", ())),
                std=tuple(float(v) for v in values.get("std", ())),
            )
        except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"the preprocessing specification is invalid ({error})", found=str(values)) from error

    def changed(self, **values: Any) -> Preprocessing:
        """The same specification with the given fields replaced; fields given as None stay. Another scaling leaves mean and std behind."""
        given = {k: v for k, v in values.items() if v is not None}
        if given.get("scaling", self.scaling) != Scaling.MEAN_STD:
            given = {**given, "mean": (), "std": ()}
        if given.get("scaling") == Scaling.CAFFE:
            given = {"order": Order.RGB, **given}
        return replace(self, **given)
