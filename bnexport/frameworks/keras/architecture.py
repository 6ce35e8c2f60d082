"""The architecture of a Keras file that has weights only: named by whoever asks, or beside the file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from bnexport.errors import InputError, UsageError
from bnexport.frameworks.protocols import Want
from bnexport.keras_files import architecture as architectures
from bnexport.keras_files.architecture import Architecture, Net
from bnexport.keras_files.container import open_file
from bnexport.keras_files.contents import read_contents
from bnexport.results.actions import spell_options
from bnexport.system.files import Format
from bnexport.system.suggestions import suggest

Shapes = tuple[tuple[int, ...], ...]


def architecture_of(source: Path, want: Want) -> Architecture | None:
    """The architecture for a file that has weights only; None where the file has its own, or nobody names one.

    Raises:
        UsageError: one is named for a file that has its own, or the name is that of no network.
        InputError: it cannot be read, or has other weights.
        MachineError: a network of keras.applications is named, and Keras is not installed.
    """
    if not architectures.is_missing(source):
        if want.architecture:
            raise UsageError(
                f"{source} has an architecture of its own",
                fix=f"omit {spell_options(architecture=want.architecture)}, which is for files with weights only",
            )
        return None
    if not want.architecture:
        return architectures.beside(source)
    named = Path(want.architecture)
    if named.suffix.lower() == ".json" or named.is_file():
        return architectures.read(named)
    net = architectures.net_named(want.architecture)
    if net is None:
        names = architectures.net_names()
        raise UsageError(
            f"there is no architecture {want.architecture}",
            expected="a JSON file, or the name of a network of keras.applications",
            fix=suggest(want.architecture, names) or f"the networks are {', '.join(names)}",
        )
    with open_file(source, Format.HDF5) as file:
        if file is None:  # an archive, which has an architecture
            return None
        shapes = architectures.shapes_of(read_contents(file, source, source.stat().st_size))
    built = _built_from(net, tuple(sorted(shapes)))
    if built is None:
        raise InputError(
            f"the weights in {source} are not those of {net.name}, whatever its classes",
            fix="name another network, or a file that model.to_json() wrote",
        )
    return built


@lru_cache(maxsize=2)
def _built_from(net: Net, shapes: Shapes) -> Architecture | None:
    """The network whose weights have these shapes, built by Keras; None where there is none."""
    from bnexport.frameworks.keras.model import load_framework

    load_framework()
    import keras

    read = {shape[2] for shape in shapes if len(shape) == 4 and shape[3] != 1}
    channels = 3 if 3 in read else min(read, default=3)  # a convolution in groups reads one channel, too
    for classes in _class_counts(shapes):
        top = {"classes": classes} if classes else {"include_top": False}
        try:
            model = getattr(keras.applications, net.name)(
                weights=None, input_shape=(net.size, net.size, channels), **top
            )
        except ValueError:  # a number of channels that it does not have
            return None
        if Counter(tuple(v.shape) for v in model.weights if "float" in v.dtype) == Counter(shapes):
            origin = f"{classes} classes and softmax" if classes else "the layers on top left out"
            return Architecture(json.loads(model.to_json()), f"of keras.applications.{net.name} with {origin}")
    return None


def _class_counts(shapes: Shapes) -> Iterator[int]:
    """How many classes the weights may be for: what a matrix or a convolution gives out and no other reads; 0 for none, at the end."""
    kernels = [shape[-2:] for shape in shapes if len(shape) in (2, 4)]
    read = {before for before, _ in kernels}
    yield from sorted({after for _, after in kernels} - read)
    yield 0
