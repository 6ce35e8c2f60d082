"""The options for preprocessing that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from bnexport.results.preprocessing import Fit, Order, Resize, Scaling

PREPROCESSING = "Preprocessing"
"""The panel that groups these options in the help."""


def _complete_color_mode() -> list[str]:
    return ["gray", "rgb", "rgba"]


Size = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="N|HxW",
        rich_help_panel=PREPROCESSING,
        help="Resize the images to this height and width in pixels, for example 224 or 197x224.",
    ),
]
ColorMode = Annotated[
    str | None,
    typer.Option(
        "--color-mode",
        metavar="gray|rgb|rgba",
        autocompletion=_complete_color_mode,
        rich_help_panel=PREPROCESSING,
        help="Decode the images with these channels: gray (1), rgb (3) or rgba (4).",
    ),
]
Interpolation = Annotated[
    Resize | None,
    typer.Option(
        "--interpolation",
        rich_help_panel=PREPROCESSING,
        help="The kernel that resizes the images, named after the library whose pixels it reproduces: pil is Pillow, "
        "tf is TensorFlow.",
    ),
]
Normalize = Annotated[
    Scaling | None,
    typer.Option(
        "--normalize",
        rich_help_panel=PREPROCESSING,
        help="How pixel values are scaled. none: 0 to 255, unchanged. unit: x/255. minus-one-one: x/127.5-1. "
        "caffe, torch: as in keras.applications. mean-std: (x/255-mean)/std with --mean and --std.",
    ),
]
Aspect = Annotated[
    Fit | None,
    typer.Option(
        "--aspect",
        rich_help_panel=PREPROCESSING,
        help="How images of another aspect ratio are fitted: stretched, cropped around the center, or padded with "
        "black.",
    ),
]
ChannelOrder = Annotated[
    Order | None,
    typer.Option("--channel-order", rich_help_panel=PREPROCESSING, help="The order of the color channels."),
]
Mean = Annotated[
    str | None,
    typer.Option(
        "--mean",
        metavar="X[,X,X]",
        rich_help_panel=PREPROCESSING,
        help="Mean of all channels or per channel, on a 0 to 1 scale, for example 0.485,0.456,0.406. Used with "
        "--normalize mean-std.",
    ),
]
Std = Annotated[
    str | None,
    typer.Option(
        "--std",
        metavar="X[,X,X]",
        rich_help_panel=PREPROCESSING,
        help="Standard deviation of all channels or per channel, on a 0 to 1 scale, for example 0.229,0.224,0.225. "
        "Used with --normalize mean-std.",
    ),
]
