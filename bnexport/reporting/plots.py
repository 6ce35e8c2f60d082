"""The figures of the HTML report as SVG (matplotlib): text stays text, and everything that is not data takes the colour of the page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bnexport.results.drift import Drift

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, BLUE, ORANGE = "#010203", "#010204", "#010205"
_COLOURS = {_INK: "currentColor", BLUE: "var(--blue)", ORANGE: "var(--orange)"}
"""What stands for colours of the page, which are put in their place: they depend on the scheme."""

_SIZE = (4.4, 3.0)
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bnexport",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
}


def drift_along_depth(drift: Drift) -> str:
    """Z and the log-std ratio of every site, medians and maxima, from the input to the output."""

    def draw(axes: Axes) -> None:
        depth = range(1, len(drift.sites) + 1)
        series = (
            ("mean (z)", BLUE, [s.z_median for s in drift.sites], [s.z_max for s in drift.sites]),
            ("log std", ORANGE, [s.log_std_median for s in drift.sites], [s.log_std_max for s in drift.sites]),
        )
        for name, colour, middle, most in series:
            axes.plot(depth, _positive(middle), color=colour, linewidth=1.6, label=f"{name}, median")
            axes.plot(depth, _positive(most), color=colour, linewidth=0.9, linestyle=":", label=f"{name}, largest")
        axes.set_yscale("log")
        axes.set_xlabel("BatchNormalization layers, from the input")
        axes.set_ylabel("distance to what the layer sees")
        axes.legend(fontsize=7.5, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return _svg(draw)


def warm_up(drift: Drift) -> str:
    """The distance of the moving statistics over what a warm-up explains it by: on the line, they are what is left of the initial values."""

    def draw(axes: Axes) -> None:
        x, y = [p[0] for p in drift.points], [p[1] for p in drift.points]
        axes.scatter(x, y, s=7, color=BLUE, alpha=0.5, linewidths=0, label="channels")
        ends = [min(x), max(x)]
        label = f"{drift.fit.initial_weight:.1%} of the initial values left"
        axes.plot(ends, [drift.fit.initial_weight * end for end in ends], color=ORANGE, linewidth=1.4, label=label)
        for values, scale in ((x, axes.set_xscale), (y, axes.set_yscale)):
            if max(map(abs, values)) > 1:
                scale("symlog", linthresh=1.0)
        axes.set_xlabel("initial value - what the layer sees")
        axes.set_ylabel("moving value - what it sees")
        axes.legend(fontsize=7.5, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    return _svg(draw)


def _positive(values: Sequence[float]) -> list[float]:
    return [max(value, 1e-6) for value in values]


def _svg(draw: Callable[[Axes], None]) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        draw(figure.add_subplot())
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = re.sub("<style.*?</style>", "", content.getvalue(), flags=re.DOTALL)  # it would apply to the whole page
    for stand_in, colour in _COLOURS.items():
        text = text.replace(stand_in, colour)
    return text[text.index("<svg") :]
