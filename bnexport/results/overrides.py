"""What a user sets about preprocessing, and how the command line spells it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from bnexport.errors import UsageError
from bnexport.results.option_values import parse_color_mode, parse_image_size, parse_numbers
from bnexport.results.options import PREPROCESSING, Flag, option
from bnexport.results.preprocessing import Fit, Order, Resize, Scaling
from bnexport.system.suggestions import suggest

T = TypeVar("T")


def _where_given(read: Callable[[str], T]) -> Callable[[str | None], T | None]:
    return lambda text: read(text) if text else None


SIZE = Flag(
    name="size",
    metavar="N|HxW",
    panel=PREPROCESSING,
    read=_where_given(parse_image_size),
    help="Resize the images to this height and width in pixels, for example 224 or 197x224.",
)
COLOR_MODE = Flag(
    name="color-mode",
    metavar="gray|rgb|rgba",
    choices=("gray", "rgb", "rgba"),
    panel=PREPROCESSING,
    read=_where_given(parse_color_mode),
    help="Decode the images with these channels: gray (1), rgb (3) or rgba (4).",
)
INTERPOLATION = Flag(
    name="interpolation",
    kind=Resize,
    panel=PREPROCESSING,
    help="The kernel that resizes the images, named after the library whose pixels it reproduces: pil is Pillow, tf is TensorFlow.",
)
NORMALIZE = Flag(
    name="normalize",
    kind=Scaling,
    panel=PREPROCESSING,
    help="How pixel values are scaled. none: 0 to 255, unchanged. unit: x/255. minus-one-one: x/127.5-1. "
    "minus-128: x-128, for int8 inputs. "
    "caffe, torch: as in keras.applications. mean-std: (x/255-mean)/std with --mean and --std.",
)
ASPECT = Flag(
    name="aspect",
    kind=Fit,
    panel=PREPROCESSING,
    help="How images of another aspect ratio are fitted: stretched, cropped around the center, or padded with black.",
)
CHANNEL_ORDER = Flag(name="channel-order", kind=Order, panel=PREPROCESSING, help="The order of the color channels.")
MEAN = Flag(
    name="mean",
    metavar="X[,X,X]",
    panel=PREPROCESSING,
    read=_where_given(lambda text: parse_numbers(text, "--mean")),
    help="Mean of all channels or per channel, on a 0 to 1 scale, for example 0.485,0.456,0.406. Used with --normalize mean-std.",
)
STD = Flag(
    name="std",
    metavar="X[,X,X]",
    panel=PREPROCESSING,
    read=_where_given(lambda text: parse_numbers(text, "--std")),
    help="Standard deviation of all channels or per channel, on a 0 to 1 scale, for example 0.229,0.224,0.225. "
    "Used with --normalize mean-std.",
)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the user sets about preprocessing; None where nothing is set.

    Kinds may be given by their names, such as `scaling="unit"`. A mean or a standard deviation alone means the scaling "mean-std".

    Raises:
        UsageError: there is no kind of that name.
    """

    size: tuple[int, int] | None = option(SIZE)
    channels: int | None = option(COLOR_MODE)
    resize: Resize | None = option(INTERPOLATION)
    scaling: Scaling | None = option(NORMALIZE)
    fit: Fit | None = option(ASPECT)
    order: Order | None = option(CHANNEL_ORDER)
    mean: tuple[float, ...] | None = option(MEAN)
    std: tuple[float, ...] | None = option(STD)

    def __post_init__(self) -> None:
        if (self.mean or self.std) and self.scaling is None:
            object.__setattr__(self, "scaling", Scaling.MEAN_STD)
        for name, kinds in (("resize", Resize), ("scaling", Scaling), ("fit", Fit), ("order", Order)):
            value = getattr(self, name)
            if value is None:
                continue
            if value not in list(kinds):
                raise UsageError(
                    f"the value of {name} is invalid",
                    found=repr(value),
                    expected=", ".join(kinds),
                    fix=suggest(str(value), kinds),
                )
            object.__setattr__(self, name, kinds(value))

    @property
    def given(self) -> dict[str, Any]:
        """The fields that are set."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
