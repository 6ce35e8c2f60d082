"""The layers around one layer, placed for a drawing: what it reads, what reads it, and which of them agree."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bnexport.reporting.layout import WIDTH, Edge, arrange
from bnexport.reporting.matrix import State
from bnexport.results.text import plain
from bnexport.results.verdict import CheckReport, Finding, LayerError, Severity

STEPS = 2
"""So many steps away layers are drawn."""

MOST = 14
"""So many layers are drawn at most, the nearest first."""

_LETTERS = 22
_FEW = 8
"""A finding that names more layers is not about one of them."""


@dataclass(frozen=True, slots=True)
class Box:
    """One layer in a drawing: where it is, what is written in it (in full its `title`), and whether lines leave the drawing above and below it."""

    x: float
    y: float
    name: str
    title: str
    kind: str
    error: str
    state: State
    focus: bool
    above: bool
    below: bool


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """A drawing.

    Args:
        layer: the layer in the middle.
        size: width and height.
        boxes: the layers.
        lines: from each layer to those that read it, as paths of SVG.
        text: the same in words.
        left_out: how many layers within `STEPS` steps are not drawn.
    """

    layer: str
    size: tuple[float, float]
    boxes: tuple[Box, ...]
    lines: tuple[str, ...]
    text: str
    left_out: int

    @property
    def middle(self) -> float:
        """How far from the left the layer in the middle is, as a share of the width."""
        [focus] = [box for box in self.boxes if box.focus]
        return (focus.x + WIDTH / 2) / self.size[0]


def neighbourhoods(report: CheckReport, most: int = 3) -> dict[int, Neighbourhood]:
    """For findings, by their position, the layers around the one they name; each layer once, and so many of them."""
    names = {name: layer for layer in reversed(report.layers) for name in (layer.tensor, layer.name) if name}
    drawings: dict[str, tuple[int, Neighbourhood]] = {}
    for nth, finding in enumerate(report.findings):
        layer = _layer_of(finding, names)
        if layer is not None and layer.name not in drawings and len(drawings) < most:
            drawings[layer.name] = nth, neighbourhood(report.layers, layer.name)
    return dict(drawings.values())


def _layer_of(finding: Finding, names: Mapping[str, LayerError]) -> LayerError | None:
    layers = [names[name] for name in finding.layers if name in names]
    first = next((layer for layer in layers if layer.off), None)
    if first is None and layers and finding.severity != Severity.ERROR and len(finding.layers) <= _FEW:
        return layers[0]
    return first


def neighbourhood(layers: Sequence[LayerError], name: str) -> Neighbourhood:
    """The layers within `STEPS` steps of one.

    Args:
        layers: all of them, from the input to the output.
        name: the one in the middle.
    """
    by_name = {layer.name: layer for layer in layers}
    order = {layer: position for position, layer in enumerate(by_name)}
    reads = {layer.name: [i for i in dict.fromkeys(layer.inputs) if i in order] for layer in by_name.values()}
    readers: dict[str, list[str]] = {layer: [] for layer in order}
    for layer, inputs in reads.items():
        for producer in inputs:
            readers[producer].append(layer)
    near = _near(name, reads, readers)
    kept = sorted(near[:MOST], key=order.__getitem__)
    nth = {layer: position for position, layer in enumerate(kept)}
    edges = [Edge(nth[p], nth[layer]) for layer in kept for p in reads[layer] if nth.get(p, len(kept)) < nth[layer]]
    placement = arrange(len(kept), edges)
    boxes = tuple(
        Box(
            *placement.corners[nth[layer]],
            name=shorten(plain(layer)),
            title=plain(layer),
            kind=shorten(plain(by_name[layer].kind)),
            error=describe_error(by_name[layer]),
            state=state_of(by_name[layer]),
            focus=layer == name,
            above=any(p not in kept for p in by_name[layer].inputs),
            below=any(r not in kept for r in readers[layer]),
        )
        for layer in kept
    )
    return Neighbourhood(
        name, placement.size, boxes, placement.paths, _words(by_name, name, readers[name]), len(near) - len(kept)
    )


def state_of(layer: LayerError) -> State:
    """How a layer is judged."""
    return State.DIFFERS if layer.off else State.RIGHT if layer.known else State.EMPTY


def describe_error(layer: LayerError) -> str:
    """The error of a layer in floors, or as a multiple of what its precision explains, or relative to the scale."""
    if not layer.known:
        return "not compared"
    if layer.max_rel != layer.max_rel:
        return "not comparable"
    if layer.expected:
        return f"{layer.max_rel / layer.expected:.2g} x expected"
    if layer.noise_floor:
        floors = layer.max_rel / layer.noise_floor
        return f"{floors:.2g} floors" if floors < 100 else f"{floors:,.0f} floors"
    return f"{layer.max_rel:.2g} of its scale"


def shorten(text: str, most: int = _LETTERS) -> str:
    """The end of a name, which tells layers apart, in so many columns.

    >>> shorten("model/block1/conv", 10)
    '…lock1/conv'
    """
    if sum(map(_columns, text)) <= most:
        return text
    kept, columns = "", 0
    for letter in reversed(text):
        columns += _columns(letter)
        if columns > most:
            break
        kept = letter + kept
    return f"…{kept}"


def _columns(letter: str) -> int:
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _near(name: str, reads: Mapping[str, Sequence[str]], readers: Mapping[str, Sequence[str]]) -> list[str]:
    """The layers within `STEPS` steps, the nearest first; among equally near ones those that it reads or that read it."""
    near, border = {name: None}, [name]
    for _ in range(STEPS):
        border = [other for layer in border for other in (*reads[layer], *readers[layer])]
        near |= dict.fromkeys(border)
    return list(near)


def _words(by_name: Mapping[str, LayerError], name: str, readers: Sequence[str]) -> str:
    """The layer in the middle and those next to it, with their errors."""

    def describe(names: Sequence[str]) -> str:
        shown = [f"{n} ({describe_error(by_name[n])})" if n in by_name else n for n in names[:_FEW]]
        return ", ".join(shown + ["others"] * (len(names) > _FEW)) or "nothing"

    return plain(f"{describe([name])} reads {describe(by_name[name].inputs)}. Its output goes to {describe(readers)}.")
