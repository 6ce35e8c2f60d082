"""A check as one self-contained HTML page (jinja2, matplotlib): no script, nothing from elsewhere, readable on a phone, dark and light."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from importlib.resources import files
from importlib.util import find_spec

from bnexport.reporting import page_rows, plots
from bnexport.reporting.neighbourhood import neighbourhoods
from bnexport.reporting.releases import release_rows
from bnexport.reporting.words import class_name, footer, in_task_terms, preparation, verdict
from bnexport.results.facts import SHOWN
from bnexport.results.text import plain
from bnexport.results.tolerance import FLOORS
from bnexport.results.verdict import CheckReport, Finding, Severity, Side

_COLUMNS = 8


def check(report: CheckReport, thumbnails: Sequence[bytes | None]) -> str:
    """The page.

    Args:
        report: the check.
        thumbnails: the first images as PNG, in their order; None for one that cannot be shown.
    """
    return page("page.html.j2", **_values(report, thumbnails), prefix="report")


def fragment(report: CheckReport) -> str:
    """The same for a notebook: what stands in the page, with styles that apply to nothing else.

    Images have their names only, and figures need matplotlib.
    """
    thumbnails = [None] * len(report.images.first)
    return page("fragment.html.j2", **_values(report, thumbnails), prefix=f"report-{secrets.token_hex(4)}")


def _values(report: CheckReport, thumbnails: Sequence[bytes | None]) -> dict[str, object]:
    """What the templates use."""
    from markupsafe import Markup

    drawings = neighbourhoods(report)
    figures = _drift(report) if find_spec("matplotlib") else []
    return {
        "report": report,
        "what": report.bundle.path if report.bundle else report.model.path,
        "reason": next((f for f in report.findings if f.severity == Severity.ERROR), None),
        "findings": [(finding, _evidence(finding), drawings.get(nth)) for nth, finding in enumerate(report.findings)],
        "pictures": _pictures(report, thumbnails),
        "runs": page_rows.runs(report),
        "costs": page_rows.costs(report),
        "expected_errors": page_rows.expected_errors(report),
        "releases": release_rows(report.releases) if report.releases else (),
        "sentence": verdict(report),
        "comparisons": page_rows.comparisons(report),
        "layers": page_rows.layers(report),
        "tasks": in_task_terms(report),
        "scores": _scores(report),
        "figures": [(title, text, Markup(svg)) for title, text, svg in figures if svg],  # noqa: S704 - our own drawing
        "preparation": preparation(report),
        "footer": footer(report),
        "known": report.bundle.known if report.bundle else (),
        "limit": FLOORS,
    }


def page(template: str, **values: object) -> str:
    """A template of the folder `templates` with values, each escaped; the filter `plain` makes control characters visible.

    The filter `breakable` does so, too, and lets lines end after an @.

    Args:
        template: the name of the file.
        values: the names that it uses; one that is missing is an error.
    """
    import jinja2
    from markupsafe import Markup, escape

    folder = files("bnexport.reporting").joinpath("templates")
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
    )
    environment.filters["plain"] = lambda value: plain(str(value))
    environment.filters["breakable"] = lambda value: escape(plain(str(value))).replace("@", Markup("@<wbr>"))
    return environment.get_template(template).render(values)


def _drift(report: CheckReport) -> list[tuple[str, str, str]]:
    drift = report.drift
    if drift is None:
        return []
    fit = drift.fit
    about = f"{fit.initial_weight:.1%} of the initial values remain, R² {fit.r_squared:.3f}"
    about += f": about {fit.updates:.0f} updates at momentum {fit.momentum:g}." if fit.updates else "."
    return [
        (
            "Drift along depth",
            f"Moving statistics compared with the input of each layer on these {report.images.noun.many}, "
            "in standard deviations and as the logarithm of their ratio.",
            plots.drift_along_depth(drift),
        ),
        (
            "Warm-up fit",
            f"{about} Points on the line are explained by too few updates.",
            plots.warm_up(drift),
        ),
    ]


def _evidence(finding: Finding) -> list[tuple[str, str]]:
    def text_of(value: object) -> str:
        if isinstance(value, float):
            return f"{value:.4g}"
        if isinstance(value, dict):
            return ", ".join(f"{key}: {text_of(entry)}" for key, entry in list(value.items())[:SHOWN])
        if isinstance(value, list | tuple):
            more = f" … ({len(value)})" if len(value) > SHOWN else ""
            return ", ".join(text_of(entry) for entry in value[:SHOWN]) + more
        return str(value)

    return [
        (str(key).replace("_", " "), text_of(value))
        for key, value in finding.evidence.items()
        if value not in (None, [], ())
    ]


def _pictures(report: CheckReport, thumbnails: Sequence[bytes | None]) -> list[dict[str, object]]:
    sides = [side for side in report.sides if side.answers]
    return [
        {
            "name": name,
            "image": base64.b64encode(content).decode() if content else "",
            "label": class_name(report, report.images.labels[nth]) if report.images.labels[nth] >= 0 else "",
            "answers": [_answer(report, side, nth) for side in sides],
        }
        for nth, (name, content) in enumerate(zip(report.images.names, thumbnails, strict=False))
    ]


def _answer(report: CheckReport, side: Side, nth: int) -> dict[str, object]:
    label = report.images.labels[nth]
    return {
        "side": side.id,
        "name": class_name(report, side.answers[nth]),
        "confidence": f"{side.confidence[nth]:.3f}" if side.confidence else "",
        "mark": "" if label < 0 else "right" if side.answers[nth] == label else "wrong",
    }


def _scores(report: CheckReport) -> dict[str, object] | None:
    """For each image the scores of the classes that matter, side by side."""
    sides = [side for side in report.sides if side.scores]
    if not sides:
        return None
    count = len(sides[0].scores[0])
    matter: list[int] = list(range(count)) if count <= _COLUMNS else []
    for side in sides if not matter else []:
        matter += [answer for answer in side.answers[:SHOWN] if answer >= 0]
    columns = list(dict.fromkeys(matter))[:_COLUMNS]
    names = [class_name(report, column) for column in columns] if count > 1 else ["score"]
    rows = [
        (
            report.images.names[nth],
            [(side.id, [f"{side.scores[nth][c]:.4g}" for c in (columns if count > 1 else [0])]) for side in sides],
        )
        for nth in range(len(sides[0].scores))
    ]
    return {"names": names, "rows": rows}
