"""The figures of the HTML report as SVG (matplotlib): text stays text, and everything that is not data takes the colour of the page."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bnexport.results.drift import Drift
from bnexport.results.text import plain
from bnexport.results.tolerance import FLOORS
from bnexport.results.verdict import CheckReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, RED = "#4a8fd8", "#dd8127", "#3f9d63", "#d9544f"
_INK = "#010203"  # stands for the text colour of the page, which is put in its place
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
        for scale in (axes.set_xscale, axes.set_yscale):
            scale("symlog", linthresh=1.0)
        axes.set_xlabel("initial value - what the layer sees")
        axes.set_ylabel("moving value - what it sees")
        axes.legend(fontsize=7.5, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    return _svg(draw)


def floors_by_side(report: CheckReport) -> str:
    """The error of every side that must be equal to another, in noise floors; "" where no floor is known."""
    comparable = [c for c in report.comparisons if c.noise_floors is not None and math.isfinite(c.noise_floors)]
    if not comparable:
        return ""

    def draw(axes: Axes) -> None:
        values = [max(c.noise_floors or 0.0, 1e-2) for c in comparable]
        names = [
            f"{c.tensor}, {c.actual}{' one by one' if c.reference.endswith('one by one') else ''}" for c in comparable
        ]
        axes.barh(
            range(len(comparable)), values, color=[GREEN if c else RED for c in comparable], height=0.6, left=1e-2
        )
        axes.axvline(FLOORS, color=_INK, linewidth=0.8, linestyle="--")
        axes.set_xscale("log")
        axes.set_xlim(1e-2, max(20.0, *(v * 2 for v in values)))
        axes.set_yticks(range(len(comparable)), [plain(name).replace("$", r"\$") for name in names], fontsize=7.5)
        axes.invert_yaxis()
        axes.set_xlabel(f"noise floors (dashed: {FLOORS:g} pass)")

    return _svg(draw, height=max(1.4, 0.55 + 0.26 * len(comparable)))


def _positive(values: Sequence[float]) -> list[float]:
    return [max(value, 1e-6) for value in values]


def _svg(draw: Callable[[Axes], None], height: float = _SIZE[1]) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_SIZE[0], height), layout="constrained")
        draw(figure.add_subplot())
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = content.getvalue()
    return text[text.index("<svg") :].replace(_INK, "currentColor")
