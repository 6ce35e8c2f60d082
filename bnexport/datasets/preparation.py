"""How images are prepared for a model, and where that was learned: from flags, the sidecar, the ONNX file, or assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np

from bnexport.datasets.sidecar import Sidecar
from bnexport.errors import InputError, UsageError
from bnexport.results.actions import spell_options
from bnexport.results.overrides import Overrides
from bnexport.results.preprocessing import Layout, Preprocessing, Scaling

Shape = Sequence[int | None]


@dataclass(frozen=True, slots=True)
class Preparation:
    """A specification that fits the model, and where it comes from.

    Args:
        spec: the specification.
        origin: "flags", "sidecar", "onnx metadata", "assumed", or "found" where the model's statistics refuted what was assumed; two of them
            joined by " + " where flags changed a part.
        assumed: which of scaling, order and resize nobody stated.
    """

    spec: Preprocessing
    origin: str
    assumed: frozenset[str] = frozenset()

    def with_spec(self, spec: Preprocessing) -> Preparation:
        """The same with what the model's statistics show in place of what was assumed."""
        return Preparation(spec, "found + flags" if "flags" in self.origin else "found")


def fit_dtype(name: str, dtype: np.dtype[np.generic] | None, overrides: Overrides) -> tuple[Overrides, tuple[str, ...]]:
    """How images go into an input of any dtype: what is set about their preparation, and what is changed, in words.

    Inputs of integers take the pixels before scaling; those of int8 take them minus 128.

    Raises:
        UsageError: another scaling is set.
    """
    if dtype is None or dtype.kind not in "iub":
        cast = (dtype is not None and dtype.kind != "f") or dtype == np.float16
        return overrides, (f"the images are cast to {dtype} for the input {name}",) if cast else ()
    if dtype.kind == "b":
        return overrides, (f"pixels that are not 0 are true for the input {name}, which is bool",)
    scaling = Scaling.MINUS_128 if dtype == np.int8 else Scaling.NONE
    if overrides.scaling not in (None, scaling):
        raise UsageError(
            f"the input {name} takes {dtype} pixels, which are not scaled",
            found=f"--normalize {overrides.scaling}",
            fix="omit this option",
        )
    note = f"the input {name} is {dtype}: it is fed the pixels before scaling" + " minus 128" * (dtype == np.int8)
    return replace(overrides, scaling=scaling), () if dtype == np.uint8 else (note,)


def prepare(shape: Shape, sidecar: Sidecar | None, origin: str, overrides: Overrides) -> Preparation:
    """The preprocessing for a model input of the given shape.

    Args:
        shape: of the model's input, the batch axis first, None for an open axis.
        sidecar: what travels with the model.
        origin: where `sidecar` comes from.
        overrides: what the user sets.

    Raises:
        InputError: the model does not take images.
        UsageError: a size is needed and unknown, or an override does not fit the model.
    """
    if len(shape) != 4:
        raise InputError(
            "the input of the model is not an image",
            found=f"an input of shape {_shape_text(shape)}",
            expected="four axes",
            fix=f"pass its inputs with {spell_options(inputs='data.npz')}",
        )
    layout = Layout.NCHW if shape[1] in (1, 3, 4) and shape[3] not in (1, 3, 4) else Layout.NHWC
    height, width, channels = (
        (shape[1], shape[2], shape[3]) if layout == Layout.NHWC else (shape[2], shape[3], shape[1])
    )
    overridden = overrides.given
    assumed = frozenset[str]()
    if sidecar is not None and sidecar.preprocessing is not None:
        stated = sidecar.preprocessing.changed(layout=layout)
        spec = stated.changed(**overridden)
        origin = f"{origin} + flags" if spec != stated else origin
    else:
        size = overrides.size or ((height, width) if height and width else None)
        if size is None:
            raise UsageError(
                "the model accepts images of any size", fix=f"choose one, for example {spell_options(size=(224, 224))}"
            )
        spec = Preprocessing(size, channels or 3, layout=layout).changed(**overridden)
        assumed = frozenset({"scaling", "order", "resize"} - overridden.keys())
        origin = "flags" if {"resize", "scaling"} <= set(overridden) else "assumed + flags" if overridden else "assumed"
    _must_fit(spec, shape, layout, channels)
    return Preparation(spec, origin, assumed)


def _must_fit(spec: Preprocessing, shape: Shape, layout: Layout, channels: int | None) -> None:
    if channels is not None and spec.channels != channels:
        raise UsageError(
            "the number of channels does not match the input of the model",
            found=str(spec.channels),
            expected=f"{channels}, from the input shape {_shape_text(shape)}",
        )
    fixed = (shape[1], shape[2]) if layout == Layout.NHWC else (shape[2], shape[3])
    if any(wanted is not None and wanted != got for wanted, got in zip(fixed, spec.size, strict=True)):
        raise UsageError(
            "the image size does not match the input of the model",
            found="x".join(map(str, spec.size)),
            expected=f"{fixed[0]}x{fixed[1]}",
        )


def _shape_text(shape: Shape) -> str:
    return (
        "("
        + ", ".join("N" if i == 0 and d is None else "?" if d is None else str(d) for i, d in enumerate(shape))
        + ")"
    )


def class_indices(
    names: Sequence[str], labels: Sequence[str], sidecar_labels: Mapping[str, str], classes: Sequence[str]
) -> list[int]:
    """The class of each image as a position in `classes`; -1 where unknown.

    Args:
        names: the images' names.
        labels: the class names that came with the images, "" where none did.
        sidecar_labels: image name to class name, from the sidecar, used where none came.
        classes: the class names in the order of the model's outputs.

    Raises:
        InputError: a label is not a class of the model.
    """
    position = {name: index for index, name in enumerate(classes)}
    indices = []
    for name, label in zip(names, labels, strict=True):
        text = label or sidecar_labels.get(name) or sidecar_labels.get(PurePath(name).name, "")
        if text and text not in position and not (_number(text) and (not classes or int(text) < len(classes))):
            raise InputError(f"the label {text!r} of {name} is not a class of the model", expected=", ".join(classes))
        indices.append(-1 if not text else position.get(text, int(text) if _number(text) else -1))
    return indices


def _number(text: str) -> bool:
    """Whether a label is a class number: at most nine digits."""
    return text.isdecimal() and len(text) < 10
