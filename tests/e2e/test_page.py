"""The HTML report is read by everyone: in both schemes, on a phone, on paper, with the keyboard and by a screen reader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from bnexport import check
from bnexport.reporting import html
from bnexport.results.verdict import CheckReport, Comparison, Finding, LayerError, Severity
from tests.e2e.browser import Browser, browser

pytestmark = pytest.mark.browser

TARGETS = ("onnx-reference", "openvino", "opencv", "mnn", "tract", "web:node")
LAYERS = tuple(
    LayerError(f"block/layer{nth}", "Conv2D", (f"block/layer{nth - 1}",) if nth else (), f"t{nth}", error, 1e-7)
    for nth, error in enumerate([1e-7] * 17 + [0.3] * 13)
)
RANKING = [
    {
        "tensor": f"t{nth}",
        "nodes": ["conv", "relu"],
        "range": [-1.0, 1.0],
        "values": [-3.0, 2.5],
        "clipped": 0.25,
        "cost": 0.4 / (nth + 1),
    }
    for nth in range(9)
]


def several(report: CheckReport, count: int, *, passed: bool) -> CheckReport:
    """The same with runs on so many targets; where it failed, with everything that a failure can show."""
    run = next(side for side in report.sides if side.id == "onnx-inference@cpu")
    like = [c for c in report.comparisons if c.actual == run.id and not c.reference.endswith("one by one")]
    sides, comparisons = [replace(run, id="golden-inference", runtime="stored")], list[Comparison]()
    for target in TARGETS[:count]:
        sides.append(replace(run, id=f"onnx-inference@{target}", runtime=target))
        comparisons += [replace(c, actual=sides[-1].id, reference="golden-inference") for c in like]
    if passed:
        return replace(report, sides=tuple(sides), comparisons=tuple(comparisons), findings=())
    sides.append(replace(run, id="onnx-inference@int8", precision="int8-qdq"))
    comparisons[0] = replace(comparisons[0], passed=False, reason="too far")
    for ratio, comparison in zip((0.8, 7.0), like, strict=True):
        measured = {"expected_rms": 0.01, "error_ratio": ratio}
        comparisons.append(replace(comparison, actual=sides[-1].id, reference="golden-inference", **measured))
    first = Finding("EX001", Severity.ERROR, "the graph differs", {"a": 1.0}, layers=("block/layer17",))
    costs = {"ranking": RANKING, "groups": 12, "expected": 0.01, "nodes_to_exclude": ["conv"], "error_left": 0.005}
    ranking = Finding("QT004", Severity.INFO, "what each tensor costs", costs)
    findings = (first, *report.findings, ranking)
    return replace(
        report, sides=tuple(sides), comparisons=tuple(comparisons), findings=findings, layers=LAYERS, deployed="x.onnx"
    )


@pytest.fixture(scope="module")
def report(models: Path) -> CheckReport:
    """A check of a file on images."""
    return check(models / "tiny_residual.onnx", models / "three", targets=["onnx-reference"])


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    """A browser."""
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def failure(report: CheckReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a check with six targets that failed."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html.check(several(report, 6, passed=False), [None] * 3), encoding="utf-8")
    return path


@pytest.mark.parametrize("count", [1, 3, 6])
@pytest.mark.parametrize("passed", [True, False])
def test_axe_has_no_objection(report: CheckReport, window: Browser, tmp_path: Path, count: int, passed: bool) -> None:
    """Contrast, roles, names and regions hold in both schemes, wide and at 360 px, and the page has no script and does not scroll sideways."""
    page = tmp_path / "report.html"
    page.write_text(html.check(several(report, count, passed=passed), [None] * 3), encoding="utf-8")
    for width, dark in ((1100, False), (1100, True), (360, False), (360, True)):
        window.open(page, width=width, dark=dark)
        assert window.says("document.scripts.length") == 0
        assert window.says("document.documentElement.scrollWidth") <= width
        window.says("document.querySelectorAll('details').forEach(e => { e.open = true })")
        assert window.violations() == []
    assert window.console() == []


def test_axe_objects_where_contrast_is_low(failure: Path, window: Browser, tmp_path: Path) -> None:
    """The test above can fail."""
    page = tmp_path / "pale.html"
    page.write_text(
        failure.read_text("utf-8").replace("--dim: light-dark(#5a6470", "--dim: light-dark(#b0b6bc"), "utf-8"
    )
    window.open(page)
    assert any(violation.startswith("color-contrast") for violation in window.violations())


def test_a_notebook_keeps_its_own_looks(report: CheckReport, window: Browser, tmp_path: Path) -> None:
    """A cell shows what the page shows, twice if it is asked twice, and nothing beside it changes; axe has no objection."""
    failed = several(report, 3, passed=False)
    beside = (
        "<h1>Notebook</h1><p class='dim'>text <code>x</code></p><table class='matrix'><tr><th>a</th><td class='n'>1</td></tr></table>"
        "<details><summary>more</summary></details><fieldset><legend>l</legend><label><input type='radio'><span>r</span></label></fieldset>"
    )
    frame = "<!doctype html><html lang='en'><title>n</title><body><main><div id='own'>{}</div>{}</main></body></html>"
    (tmp_path / "before.html").write_text(frame.format(beside, ""), encoding="utf-8")
    cells = failed._repr_html_() + failed._repr_html_()
    (tmp_path / "after.html").write_text(frame.format(beside, cells), encoding="utf-8")
    looks = (
        "[...document.querySelectorAll('#own *')].map(e => [...getComputedStyle(e)]"
        ".filter(p => !/width|height|inline-size|block-size|origin/.test(p)).map(p => p + getComputedStyle(e)[p]).join())"
    )
    window.open(tmp_path / "before.html")
    before = window.says(looks)
    window.open(tmp_path / "after.html")
    assert window.says(looks) == before
    assert window.says("document.querySelectorAll('.bnexport .matrix').length") == 2
    assert window.says("document.querySelectorAll('.bnexport fieldset :checked').length") == 2 * 3
    assert window.violations("page-has-heading-one", "landmark-unique") == []


@pytest.mark.parametrize(("theme", "dark"), [("data-jp-theme-light='false'", True), ("class='vscode-light'", False)])
def test_a_notebook_decides_on_its_theme(
    report: CheckReport, window: Browser, tmp_path: Path, theme: str, dark: bool
) -> None:
    """JupyterLab and VS Code say what they are, whatever the system prefers."""
    page = tmp_path / "notebook.html"
    page.write_text(f"<!doctype html><body {theme}>{report._repr_html_()}</body>", encoding="utf-8")
    window.open(page, dark=not dark)
    colour = window.says("getComputedStyle(document.querySelector('.card')).backgroundColor")
    assert colour == ("rgb(23, 28, 34)" if dark else "rgb(255, 255, 255)")


def test_every_verdict_is_a_word(failure: Path, window: Browser) -> None:
    """Each cell says it with a word and a sign, not by its colour alone; precision is named, and its error a multiple of the expected one."""
    window.open(failure)
    cells = window.says("[...document.querySelectorAll('.matrix .cell')].map(e => [e.className, e.innerText])")
    words = {state.split()[-1]: text.split("\n")[0] for state, text in cells}
    assert words == {"right": "✓ agrees", "differs": "✗ differs", "reduced": "≈ int8-qdq", "beyond": "! int8-qdq"}
    assert any("7 x expected" in text for _, text in cells)
    assert len(cells) == 2 * 7


def test_the_layers_around_the_first_wrong_one_are_drawn(failure: Path, window: Browser) -> None:
    """Two producers that agree, the layer, and two consumers that do not, each with its error; lines lead from one to the next."""
    window.open(failure)
    boxes = window.says("[...document.querySelectorAll('.graph g')].map(e => [e.className.baseVal, e.textContent])")
    assert [state for state, _ in boxes] == ["right", "right", "differs focus", "differs", "differs"]
    assert "block/layer17" in boxes[2][1]
    assert "Conv2D✗ 3,000,000 floors" in boxes[2][1]
    assert window.says("document.querySelectorAll('.canvas > svg > path').length") == 4
    label = window.says("document.querySelector('.graph svg').getAttribute('aria-label')")
    assert label.startswith("block/layer17 (3,000,000 floors) reads block/layer16 (1 floors)")


def test_rows_are_sorted_by_the_keyboard(failure: Path, window: Browser) -> None:
    """Arrow keys choose another order of the same rows: one of three tables is shown."""
    window.open(failure)
    layers = "[...document.querySelectorAll('h2')].find(e => e.innerText == 'Layers').nextElementSibling"
    shown = f"[...{layers}.querySelectorAll('.order')].filter(e => e.offsetHeight)"
    first = f"{shown}[0].querySelector('tbody th').innerText"
    assert window.says(f"{shown}.length") == 1
    assert window.says(first) == "block/layer0"
    window.says(f"{layers}.querySelector('input').focus()")
    window.press(Keys.ARROW_RIGHT)
    assert window.says(f"{shown}.length") == 1
    assert window.says(first) == "block/layer17"
    window.press(Keys.ARROW_RIGHT)
    assert window.says(f"{shown}[0].innerText").index("layer10") < window.says(f"{shown}[0].innerText").index("layer2")
    assert window.says(f"{shown}[0].querySelectorAll('tbody tr').length") == len(LAYERS)


def test_costs_and_expected_errors_have_bars(failure: Path, window: Browser) -> None:
    """The most expensive tensor has the longest bar, and the error beyond the expected one is longer than it."""
    window.open(failure)
    widths = "[...{}.querySelectorAll('.bar i')].map(e => e.getBoundingClientRect().width)"
    section = (
        "[...document.querySelectorAll('h2')].find(e => e.innerText == '{}').nextElementSibling.nextElementSibling"
    )
    costs = window.says(widths.format(section.format("What quantisation costs")))
    assert costs[:2] == sorted(costs[:2], reverse=True)
    assert costs[0] > 1.9 * costs[1] > 0
    less_expected, less, expected, more = window.says(widths.format(section.format("Expected and measured error")))
    assert less < less_expected
    assert more > 6 * expected


def test_paper_shows_what_is_closed(failure: Path, window: Browser) -> None:
    """In print the evidence is open, tables are whole, the controls are gone and the ground is white, in the dark scheme too."""
    window.open(failure, dark=True, printed=True)
    assert window.says("document.querySelector('.evidence').checkVisibility({contentVisibilityAuto: true})")
    assert window.says("getComputedStyle(document.querySelector('.long')).maxHeight") == "none"
    assert window.says("document.querySelector('fieldset').offsetHeight") == 0
    assert window.says("getComputedStyle(document.querySelector('.card')).backgroundColor") == "rgb(255, 255, 255)"
    window.open(failure)
    assert not window.says("document.querySelector('.evidence').checkVisibility({contentVisibilityAuto: true})")


def test_tables_scroll_by_themselves_with_the_keyboard(failure: Path, window: Browser) -> None:
    """At 360 px the page is as wide as the window; what is wider scrolls in a region with a name that takes the focus."""
    window.open(failure, width=360)
    wide = "[...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX == 'auto')"
    assert window.says(f"{wide}.length") > 0
    assert window.says(f"{wide}.every(e => e.tabIndex == 0 && e.getAttribute('role') == 'region' && e.ariaLabel)")
