"""Where an error begins: the layers of a model held against the tensors of its graph, from the input to the output."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from bnexport.numerics.permuted import describe_order, find_order
from bnexport.results.tolerance import SMALLEST_FLOOR
from bnexport.results.verdict import LayerError
from bnexport.types import Array

_NEUTRAL = re.compile("Dropout|Noise$|^Identity$|^InputLayer$|^ActivityRegularization$")

_FOLDED = re.compile("Normalization$|^Rescaling$|^Activation$|^(Leaky)?(ReLU|Relu)$|^Clip$")
_COMBINING = re.compile("^(MatMul|Einsum|Dot|Mul|Multiply|Div|Add|Sub|Subtract)$")
_CUTTING = re.compile("^(ReLU|Relu|Clip)$")


def distance(actual: Array, reference: Array) -> float:
    """Max |actual - reference| / max |reference| with the axes of `actual` as they are, or the channels moved to the end or to the front.

    Returns:
        NaN where no such order has the reference's shape, or where a value is not finite.
    """
    wide = np.asarray(reference, np.float64)
    best = math.nan
    for candidate in orders(actual):
        if candidate.shape != wide.shape:
            continue
        scale = float(np.abs(wide).max(initial=0.0))
        apart = float(np.abs(np.asarray(candidate, np.float64) - wide).max(initial=0.0))
        relative = apart / scale if scale else math.inf if apart else 0.0
        best = relative if math.isnan(best) else min(best, relative)
    return best


def orders(x: Array) -> list[Array]:
    """A tensor as it is, and with its channels moved to the end and to the front, as another layout has them; a series also with its steps first."""
    moved = [x, np.moveaxis(x, 1, -1), np.moveaxis(x, -1, 1)] if x.ndim > 2 else [x]
    return [*moved, np.swapaxes(x, 0, 1)] if x.ndim == 3 else moved


def describe_other_order(actual: Array, reference: Array, tolerance: float) -> str:
    """On which axis `actual` holds the values of `reference` in another order, and in which, in words; "" where it does not.

    Args:
        actual: shape (N, ...), also with the channels elsewhere.
        reference: shape (N, ...).
        tolerance: how far equal values may be apart, relative to the scale of the reference.
    """
    for candidate in orders(actual) if reference.ndim > 1 and reference.size else []:
        for axis in range(reference.ndim - 1, 0, -1):
            if order := find_order(candidate, reference, axis, tolerance * float(np.abs(reference).max())):
                return f"on axis {axis} it holds the same values in another order: {describe_order(order)}"
    return ""


def floor(rounded: Array, exact: Array) -> float:
    """The noise floor of one layer."""
    return max(distance(rounded, exact), SMALLEST_FLOOR)


def first_off(layers: Sequence[LayerError]) -> LayerError | None:
    """The layer where the error begins: off while everything it reads agrees. None where no layer is off.

    The way goes back from the last layer that is off, through layers that are off or unknown. It does not start at the front: a layer may look off because an exporter
    folded the next one into it, and then what follows agrees.
    """
    by_name = {layer.name: layer for layer in layers}
    last = next((layer for layer in reversed(layers) if layer.off), None)
    if last is None:
        return None
    culprit, seen = last, {last.name}
    while (earlier := next(off_before(culprit.inputs, by_name, seen), None)) is not None:
        culprit = earlier
    return culprit


def off_before(inputs: Sequence[str], layers: Mapping[str, LayerError], seen: set[str]) -> Iterator[LayerError]:
    """The layers that are off among those that a layer reads, and before those of them that could not be compared.

    Args:
        inputs: the names of the layers that it reads.
        layers: by name.
        seen: the layers that are left out; those that are visited are added.
    """
    waiting = list(inputs)
    while waiting:
        layer = layers.get(waiting.pop())
        if layer is None or layer.name in seen:
            continue
        seen.add(layer.name)
        if layer.off:
            yield layer
        elif not layer.known:
            waiting += layer.inputs


def unknown_inputs(culprit: LayerError, layers: Sequence[LayerError]) -> tuple[str, ...]:
    """The layers of which no tensor was found between a layer and those that were compared before it, in their order: the error may begin there as well.

    Layers that pass on what they read in inference mode are left out.
    """
    by_name = {layer.name: layer for layer in layers}
    unknown, waiting = set[str](), list(culprit.inputs)
    while waiting:
        layer = by_name.get(waiting.pop())
        if layer is not None and not layer.known and layer.name not in unknown:
            unknown.add(layer.name)
            waiting += layer.inputs
    return tuple(layer.name for layer in layers if layer.name in unknown and not _NEUTRAL.search(layer.kind))


def unknown_readers(culprit: LayerError, layers: Sequence[LayerError]) -> tuple[str, ...]:
    """The normalisations and activations of which no tensor was found and that read a layer: they may be folded into it, and the error may be theirs."""
    readers = [layer for layer in layers if culprit.name in layer.inputs and not layer.known]
    return tuple(layer.name for layer in readers if _FOLDED.search(layer.kind))


def hidden(layers: Sequence[LayerError]) -> LayerError | None:
    """The layer where an error begins that is lost on the way to the outputs, which agree; None where there is none.

    A layer that is off alone is no error: an exporter folded the next one into it. An error shows in a layer that reads the culprit, too, unless
    all that read it give integers or truth values (ArgMax, Greater) or cut values off (ReLU, Clip): nothing can be folded into those, and a large
    error may change none of them.
    """
    culprit = first_off(layers)
    if culprit is None:
        return None
    readers = [layer for layer in layers if culprit.name in layer.inputs]
    shows = any(layer.off for layer in readers) or bool(readers and all(_hides(r, culprit) for r in readers))
    return culprit if shows else None


def undone(layers: Sequence[LayerError], others: Collection[str]) -> tuple[str, ...]:
    """The layers that are off on the way to the outputs, and whose readers undo that, in their order.

    Weights may be scaled, or channels ordered, otherwise in one layer and back in the next one (cross-layer equalisation, SmoothQuant). Then all
    that agree and read what is off, directly or through layers that could not be compared, have other weights than the reference, or combine it
    with something else that is off (the scores of attention, where queries are scaled and keys scaled back): otherwise they would not agree.

    Args:
        layers: all layers that were compared.
        others: the layers whose weights in the file are not those of the reference.
    """
    readers: dict[str, list[LayerError]] = {}
    for layer in layers:
        for name in layer.inputs:
            readers.setdefault(name, []).append(layer)
    lasting = {layer.name for layer in layers if layer.name not in readers and not (layer.known and not layer.off)}
    tensors, by_name = {layer.name: layer.tensor for layer in layers}, {layer.name: layer for layer in layers}
    lasting |= {
        name
        for layer in layers
        if layer.known and not layer.off and not _combines(layer, by_name)
        for name in layer.inputs
        if layer.name not in others or tensors.get(name) == layer.tensor  # one that has its tensor was folded into it
    }
    for layer in reversed(layers):  # what reads a layer comes behind it
        if layer.name in lasting and (layer.off or not layer.known):
            lasting.update(layer.inputs)
    return tuple(layer.name for layer in layers if layer.off and layer.name not in lasting)


def _combines(reader: LayerError, layers: Mapping[str, LayerError]) -> bool:
    """Whether a layer computes with several layers that are off, so that they may undo each other."""
    off = [name for name in dict.fromkeys(reader.inputs) if next(off_before([name], layers, set()), None) is not None]
    return bool(_COMBINING.search(reader.kind)) and len(off) > 1


def _hides(reader: LayerError, layer: LayerError) -> bool:
    """Whether a reader may be right where the layer is not; one that has the layer's own tensor was fused with it."""
    return reader.known and (reader.discrete or (bool(_CUTTING.search(reader.kind)) and reader.tensor != layer.tensor))
