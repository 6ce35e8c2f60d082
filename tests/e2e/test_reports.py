"""Reports say the same thing everywhere, and nothing that a file is called acts on whoever reads them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from bnexport.cli import app
from bnexport.reporting import batch
from bnexport.reporting.json import SCHEMA
from bnexport.results.batched import Batch, Result as BatchResult
from tests.e2e.browser import Browser, browser

pytestmark = pytest.mark.keras

ODD = ("<img src=x onerror=alert(1)>.png", "\x1b[31mred\x1b[0m.png", "::error::%0A`x`|y\n$z$.png")


def run(*arguments: Any, **environment: str) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env=environment)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    """A check of the small stale model on pictures with odd names, in every form."""
    folder = tmp_path_factory.mktemp("reports")
    (folder / "pictures").mkdir()
    for picture, name in zip(sorted((models / "three").glob("*.png")), ODD, strict=True):
        shutil.copy(picture, folder / "pictures" / name)
    (folder / "pictures" / "\x1b[2Jbroken<b>.png").write_bytes(b"no picture")
    rows = [f'"{name}",{label}' for name, label in zip(ODD, ("cross", "disc", "stripes"), strict=True)]
    (folder / "pictures/labels.csv").write_text("\n".join(["file,label", *rows]))
    arguments = ["check", models / "tiny_residual.keras", folder / "pictures", "-q"]
    for suffix in ("json", "xml", "html", "md"):
        arguments += ["--report", folder / f"report.{suffix}"]
    done = run(*arguments)
    assert done.exit_code == 1, done.output
    (folder / "report.txt").write_text(done.stdout)
    for form in ("github", "junit"):
        done = run(*arguments[:4], "--format", form, GITHUB_STEP_SUMMARY=str(folder / "summary.md"))
        (folder / f"stdout.{form}").write_text(done.stdout)
    return folder


def test_the_first_three_lines_are_verdict_reason_and_next_command(told: Path) -> None:
    """Who reads a failing CI's log sees at once what failed, why, and what to type."""
    first, second, third = (told / "report.txt").read_text().splitlines()[:3]
    assert first.startswith("FAIL ")
    assert second.startswith("BN001 stale moving statistics")
    assert third.startswith("  -> bnexport recalibrate ")


@pytest.mark.parametrize(
    "name", ["report.txt", "report.json", "report.xml", "report.md", "report.html", "stdout.github", "stdout.junit"]
)
def test_no_control_character_is_left_in_any_report(told: Path, name: str) -> None:
    """What would act on a terminal is shown as an escape."""
    text = (told / name).read_text()
    assert not [c for c in text if not c.isprintable() and c != "\n"]
    assert "red" in text


def test_json_follows_the_schema(told: Path) -> None:
    """The drift of all six layers is in it."""
    values = json.loads((told / "report.json").read_text())
    jsonschema.validate(values, json.loads(SCHEMA.read_text()))
    assert len(values["drift"]["sites"]) == 6
    assert values["images"]["unreadable"][0]["file"] == "\x1b[2Jbroken<b>.png"


def test_junit_counts_failures(told: Path) -> None:
    """A test case for each comparison and each finding; errors are failures."""
    values = json.loads((told / "report.json").read_text())
    for name in ("report.xml", "stdout.junit"):
        suite = ElementTree.fromstring((told / name).read_text())[0]  # noqa: S314 - our own
        cases = suite.findall("testcase")
        assert len(cases) == len(values["comparisons"]) + len(values["findings"])
        failed = [case.get("name") for case in cases if case.find("failure") is not None]
        errors = [f["code"] for f in values["findings"] if f["severity"] == "error"]
        assert [name for name in failed if name in errors] == errors
        assert len(failed) == len(errors) + sum(not c["passed"] for c in values["comparisons"])
        assert suite.get("failures") == str(len(failed))


def test_github_gets_commands_of_ours_only(told: Path) -> None:
    """One annotation for each finding and failed comparison; a file name is no command."""
    values = json.loads((told / "report.json").read_text())
    lines = (told / "stdout.github").read_text().splitlines()
    commands = [line for line in lines if line.startswith("::")]
    assert lines[0].startswith("FAIL ")
    assert len(commands) == len(values["findings"]) + sum(not c["passed"] for c in values["comparisons"])
    assert all(
        line.startswith(("::error title=bnexport ", "::warning title=bnexport ", "::notice title=bnexport "))
        for line in commands
    )
    assert (told / "summary.md").read_text().startswith("## ❌ FAIL")


def test_markdown_is_text(told: Path) -> None:
    """No markup of a file's name is markup in the summary."""
    text = (told / "report.md").read_text()
    assert "<b>" not in text
    assert "\\x1b\\[2Jbroken&lt;b&gt;.png" in text.replace("\\\\", "\\")


@pytest.fixture(scope="module")
def opened(told: Path) -> Iterator[Browser]:
    with browser() as found:
        found.open(told / "report.html")
        yield found


@pytest.mark.browser
def test_the_page_is_quiet_and_alone(told: Path, opened: Browser) -> None:
    """No console message, no request but for the page itself, no script, no horizontal scroll at 360 px."""
    for width, dark in ((1100, False), (360, True), (360, False)):
        opened.open(told / "report.html", width=width, dark=dark)
        assert opened.says("document.documentElement.scrollWidth") <= width
    assert opened.console() == []
    assert {url for url in opened.requests() if not url.startswith("data:")} == {(told / "report.html").as_uri()}
    assert opened.says("document.scripts.length") == 0


@pytest.mark.browser
def test_the_page_shows_what_was_found(told: Path, opened: Browser) -> None:
    """Findings with evidence and fix, three pictures with every side's answer, two figures with text in them, and names as text."""
    values = json.loads((told / "report.json").read_text())
    opened.open(told / "report.html")
    assert opened.says("[...document.querySelectorAll('.finding .code')].map(e => e.textContent)") == [
        f["code"] for f in values["findings"]
    ]
    assert opened.says("document.querySelectorAll('.finding details table').length") == len(values["findings"])
    assert opened.says("document.querySelectorAll('.finding .fix li').length") == sum(
        len(f["fix"]) for f in values["findings"]
    )
    assert opened.says("document.querySelectorAll('.card img').length") == 3
    assert opened.says("[...document.querySelectorAll('.card img')].every(e => e.naturalWidth > 0)")
    assert opened.says("document.querySelectorAll('.picture dd').length") == 3 * len(values["sides"])
    assert opened.says("document.querySelectorAll('.card .wrong').length") == sum(
        s["top1"]["of"] - s["top1"]["correct"] for s in values["sides"]
    )
    assert opened.says("document.querySelectorAll('figure svg').length") == 2
    assert opened.says(
        "[...document.querySelectorAll('figure svg')].every(e => e.getBBox().width > 100 && e.textContent.trim().length > 40)"
    )
    assert opened.says("document.querySelectorAll('img').length") == 3
    assert "<img src=x onerror=alert(1)>.png" in opened.says("document.body.innerText")


@pytest.mark.browser
def test_the_page_is_dark_in_the_dark(told: Path, opened: Browser) -> None:
    """The ground follows the reader's scheme, figures included: their text has the colour of the page's."""
    brightness = {}
    for dark in (False, True):
        opened.open(told / "report.html", dark=dark)
        colour = opened.says("getComputedStyle(document.body).backgroundColor")
        brightness[dark] = max(int(part) for part in re.findall(r"\d+", colour)[:3])
        ink = opened.says("getComputedStyle(document.querySelector('main')).color")
        assert opened.says("getComputedStyle(document.querySelector('figure svg text')).fill") == ink
    assert brightness[True] < 60 < 200 < brightness[False]


@pytest.mark.browser
def test_the_page_of_a_batch_is_quiet_and_narrow_too(tmp_path: Path, opened: Browser) -> None:
    """Long names and markup in them: no console message, no other request, no horizontal scroll, every check a row, what fails newly said."""
    finding = {"code": "BN001", "severity": "error", "message": "stale moving statistics " * 9}
    report = {"verdict": "fail", "findings": [finding]}
    results = tuple(
        BatchResult(
            f"k{nth}", f"<b>zoo/{'x' * 90}{nth}</b> | sets/a", ("check",), status, None, 1.5, 0.0, "too long", told
        )
        for nth, (status, told) in enumerate(
            [("fail", report), ("pass", {**report, "findings": []}), ("timeout", None)]
        )
    )
    page = tmp_path / "summary.html"
    page.write_text(batch.html(Batch(tmp_path, results, frozenset(), {results[0].name: "pass"})), encoding="utf-8")
    for width, dark in ((1100, False), (360, True)):
        opened.open(page, width=width, dark=dark)
        assert opened.says("document.documentElement.scrollWidth") <= width
        assert opened.violations() == []
    assert opened.console() == []
    assert page.as_uri() in opened.requests()
    assert opened.says("document.querySelectorAll('tr').length") == 4
    assert opened.says("document.querySelectorAll('b').length") == 0
    assert "new failures" in opened.says("document.body.innerText")
