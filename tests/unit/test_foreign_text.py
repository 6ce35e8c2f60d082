"""What a file brings along is shown as text: no terminal, page, log of CI or error message acts on it or gives it away."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

import bnexport
from bnexport import datasets
from bnexport.cli import app, report_output
from bnexport.cli.output_options import OutputFormat
from bnexport.datasets import manifest
from bnexport.datasets.preparation import class_indices
from bnexport.errors import InputError
from bnexport.reporting import batch, github, json as json_report, junit, markdown
from bnexport.reporting.summary import show_summary
from bnexport.reporting.text import show_check
from bnexport.results.batched import STATUSES, Batch, Result
from bnexport.results.preprocessing import MOST_PIXELS, Preprocessing
from bnexport.results.text import plain
from bnexport.results.verdict import BundleFacts, CheckReport, Finding, LayerError, Severity
from bnexport.system import confined

EVIL = "\x1b[2J\u202e::error title=x::y\n::stop-commands::x\n##[error]z[/x][link=http://evil]w[/link]<script>"
ACTS = re.compile(r"\x1b|\u202e|^\s*::(error title=x|stop-commands)|##\[", re.MULTILINE | re.IGNORECASE)


@pytest.fixture(scope="module")
def report(models: Path) -> CheckReport:
    """A report on a bundle whose every text is hostile."""
    checked = bnexport.check(models / "tiny_residual.onnx", models / "three")
    finding = Finding(EVIL, Severity.ERROR, EVIL, {EVIL: EVIL}, layers=(EVIL,))
    facts = BundleFacts(EVIL, 3, EVIL, {EVIL: EVIL}, {EVIL: EVIL}, (finding,))
    names = tuple(EVIL for _ in checked.images.names)
    entry = {"tensor": EVIL, "nodes": [EVIL], "range": [0.0, 1.0], "values": [0.0, 2.0], "clipped": 0.5, "cost": 0.1}
    costs = {"ranking": [entry], "groups": 1, "expected": 0.01, "nodes_to_exclude": [EVIL], "error_left": 0.0}
    return replace(
        checked,
        findings=(finding, Finding("QT004", Severity.INFO, EVIL, costs)),
        bundle=facts,
        images=replace(checked.images, names=names),
        layers=(LayerError(EVIL, EVIL, (), EVIL, 0.5, 1e-7), LayerError("b", EVIL, (EVIL,), "b", 0.5, 1e-7)),
        sides=tuple(replace(side, id=f"{side.id}{EVIL}") for side in checked.sides),
        comparisons=tuple(
            replace(
                c,
                actual=f"{c.actual}{EVIL}",
                reference=f"{c.reference}{EVIL}",
                tensor=EVIL,
                expected_rms=1.0,
                error_ratio=9.0,
            )
            for c in checked.comparisons
        ),
    )


def test_nothing_of_a_bundle_acts(report: CheckReport) -> None:
    """Codes of findings, messages and names are escaped as text, Markdown, HTML, JUnit and annotations, at every width of a terminal."""
    for width in (40, 120):
        stream = io.StringIO()
        console = Console(file=stream, width=width, highlight=False)
        for show in (show_check, show_summary):
            stream.truncate(0)
            show(report, console)
            assert not ACTS.search(stream.getvalue())
            assert "link=http" in stream.getvalue()
    for text in (
        github.check(report),
        markdown.check(report),
        junit.check(report),
        report_output._text(report, ".html"),
        report._repr_html_(),
    ):
        assert not ACTS.search(text)
    for page in (
        markdown.check(report),
        junit.check(report),
        report_output._text(report, ".html"),
        report._repr_html_(),
    ):
        assert "<script>" not in page
    assert all(
        part in report._repr_html_() for part in ("What quantisation costs", '<figure class="graph">', "9 x expected")
    )


def test_json_shows_what_nobody_sees_as_escapes(report: CheckReport) -> None:
    """C1 controls, line ends of Unicode and directions of text stand in no line of JSON, and come back when it is read."""
    unseen = "\x9b2J\x85\u2028\u202e\u2067"
    told = json_report.dumps(json_report.check(replace(report, model=replace(report.model, path=unseen))))
    assert not set(unseen) & set(told) - set("2J")
    assert json.loads(told)["model"]["path"] == unseen


def test_only_what_ci_would_execute_is_escaped() -> None:
    """A C++ name stays what it is; a command of GitHub Actions does not, wherever it stands."""
    assert plain("onnxruntime::Model::Load") == "onnxruntime::Model::Load"
    assert plain("a.png") == "a.png"
    assert plain(" ::Set-Output name=a::b") == r" \x3a:Set-Output name=a::b"
    assert plain("##[error]a") == r"\x23#[error]a"


@pytest.mark.parametrize(
    "content", ["root:$6$secret:19000:0", "secret,b,c", "secret one\nsecret two", "a.png,b\nsecret"]
)
def test_a_file_that_is_no_manifest_stays_unread(content: str, tmp_path: Path) -> None:
    """A table may be a link to anybody's file: the error says what is wrong, and shows nothing of it."""
    (tmp_path / "private").write_text(content + "\n")
    (tmp_path / "list.csv").symlink_to("private")
    with pytest.raises(InputError, match="not a table of images") as caught:
        list(manifest.rows(str(tmp_path / "list.csv")))
    assert "secret" not in str(caught.value)


def test_a_list_of_names_without_a_head_is_still_a_manifest(tmp_path: Path) -> None:
    """Pictures and URLs in the first line say so themselves."""
    (tmp_path / "list.csv").write_text("a.PNG\nb\n")
    assert [picture.name for picture in datasets.find(tmp_path / "list.csv")] == ["a.PNG", "b"]


def test_an_image_size_has_an_upper_bound() -> None:
    """Wherever a specification comes from; 8192 x 8192 is still accepted."""
    assert Preprocessing((8192, 8192)).size[0] ** 2 == MOST_PIXELS
    for make in (
        lambda: Preprocessing((100_000, 100_000)),
        lambda: Preprocessing.from_dict({"size": [100_000, 100_000]}),
        lambda: Preprocessing((8, 8)).changed(size=(1, MOST_PIXELS + 1)),
    ):
        with pytest.raises(InputError, match="the image size is too large"):
            make()


@pytest.mark.parametrize("entry", ["https://host/a.png", "/etc/a.png", "../a.png", "file:///etc/a.png", "link/a.png"])
def test_a_manifest_of_others_stays_in_its_folder(entry: str, tmp_path: Path) -> None:
    """With `local`, an entry that leads out of the manifest's folder is refused before it is asked for; without, nothing changes."""
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "link").symlink_to("/")
    (folder / "list.csv").write_text(f"good.png\n{entry}\n")
    with pytest.raises(InputError, match="--allow-remote"):
        datasets.find(folder / "list.csv", local=True)
    assert len(datasets.find(folder / "list.csv")) == 2
    (folder / "list.csv").write_text("good.png\nsub/b.png\n")
    assert len(datasets.find(folder / "list.csv", local=True)) == 2


def test_untrusted_checks_read_manifests_so(models: Path, tmp_path: Path) -> None:
    """The command line refuses such a list with --untrusted, takes it with --allow-remote, and a folder of links likewise."""
    (tmp_path / "set").mkdir()
    for picture in sorted((models / "three").glob("*.png")):
        (tmp_path / "set" / picture.name).symlink_to(picture)
    arguments = ["check", str(models / "tiny_residual.onnx"), str(tmp_path / "set"), "-q", "--untrusted"]
    inside = {confined.INSIDE: "1"}
    refused = CliRunner().invoke(app, arguments, env=inside)
    assert (refused.exit_code, "add --allow-remote" in refused.stderr) == (2, True)
    assert CliRunner().invoke(app, [*arguments, "--allow-remote"], env=inside).exit_code == 1


def test_a_label_too_large_for_a_class_is_one_sentence() -> None:
    """A number of many digits is no class number, in a manifest as in a folder's name."""
    for digits in ("9" * 30, "9" * 5000):
        with pytest.raises(InputError, match="not a class of the model"):
            class_indices(["a.png"], [digits], {}, ())


@pytest.mark.parametrize("form", list(OutputFormat))
def test_a_name_that_is_not_utf8_is_shown_in_every_format(
    form: OutputFormat, report: CheckReport, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """The byte 255 of a file name is shown as an escape on stdout and in every report file, and JSON stays JSON."""
    names = tuple("\udcff.png" for _ in report.images.names)
    images_odd, model_odd = replace(report.images, names=names), replace(report.model, path="\udcff.png")
    odd = replace(report, images=images_odd, model=model_odd)
    report_output.print_check(odd, form, verbose=True)
    told = capsysbinary.readouterr().out.decode("utf-8")
    if form in (OutputFormat.TEXT, OutputFormat.JSON, OutputFormat.NDJSON):
        assert "\\udcff.png" in told
    if form == OutputFormat.JSON:
        assert json.loads(told)["model"]["path"] == "\\udcff.png"
    paths = [tmp_path / f"report{suffix}" for suffix in report_output.SUFFIXES]
    report_output.write_reports(odd, paths)
    assert all(path.read_text(encoding="utf-8") for path in paths)


def test_nothing_of_a_batch_acts(tmp_path: Path) -> None:
    """Names and sentences of checks are escaped in a batch's page, table and test cases; the page holds each of them."""
    results = [Result("key", EVIL, (), status, None, 1.25, 0.0, f"{{{{ {EVIL} }}}}", None) for status in STATUSES[2:]]
    done = Batch(tmp_path, tuple(results), frozenset(), {EVIL: "pass"})
    for text in (batch.html(done), batch.markdown(done), batch.junit(done)):
        assert not ACTS.search(text)
        assert "<script>" not in text
    assert batch.html(done).count("&lt;script&gt;") == 2 * len(results) + len(done.new_failures)
