"""The text report: on one screen at every width, whatever was checked; -v has everything."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import product

import pytest
from rich.console import Console

from bnexport.reporting.run_rows import Verdict, run_rows
from bnexport.reporting.summary import MOST_RUNS, show_summary
from bnexport.reporting.text import show_check
from bnexport.reporting.words import cut
from bnexport.results.actions import Action
from bnexport.results.facts import ImageFacts, ModelFacts
from bnexport.results.verdict import CheckReport, Comparison, Difference, Finding, LayerError, Severity, Side

TARGETS = ("cpu", "openvino", "openvino-as-deployed", "opencv", "mnn", "tract")
SENTENCE = "the logits of onnx-inference@cpu are 7,215 noise floors from keras-inference; 0 of 1000 images agree, " * 3
COMMAND = "bnexport recalibrate some/folder/model.keras images -o some/folder/model-recalibrated.keras --size 224x224"


def difference(far: float, images: int = 3) -> Difference:
    return Difference(images, 1.0, far, far, far, 1.0, 60.0, 0, 0)


def compare(actual: str, reference: str, tensor: str, far: float, *, passed: bool = True) -> Comparison:
    return Comparison(actual, reference, tensor, difference(far), 1e-5, 1.0, passed, noise_floor=1e-6)


def side(run: str, answers: tuple[int, ...], mode: str = "inference") -> Side:
    runtime = "keras" if run.startswith("keras") else "onnxruntime"
    return Side(run, runtime, mode, run.rpartition("@")[2], 3, 3, answers, [0.9] * len(answers), 1.25)


def make(images: int = 3, layers: int = 0, targets: tuple[str, ...] = TARGETS, wrong: str = "") -> CheckReport:
    """A report on many runs, of which the one on `wrong` fails in a layer."""
    count = images if images <= 12 else 0
    answers = tuple(nth % 3 for nth in range(count))
    runs = [f"onnx-inference@{target}" for target in targets]
    sides = [side("keras-inference", answers), side("keras-training", answers, "training")]
    sides += [side(run, answers[::-1] if run.endswith(wrong or "?") else answers) for run in runs]
    bad = f"onnx-inference@{wrong}"
    comparisons = [
        compare(run, "keras-inference", tensor, 0.5 if run == bad else 1e-6, passed=run != bad)
        for run, tensor in product(runs, ("logits", "probabilities"))
    ]
    comparisons += [compare("keras-training", "keras-inference", "logits", 0.7, passed=False)]
    comparisons += [compare(run, f"{run} one by one", "logits", 0.0) for run in runs]
    actions = (Action("3 of 3 correct instead of 1", COMMAND), Action("train for more updates"))
    causes = [Finding("EX001", Severity.ERROR, SENTENCE * 3, actions=actions)] if wrong else []
    notes = [Finding(f"IN00{nth}", Severity.WARNING, SENTENCE, actions=actions) for nth in range(9)]
    errors = [
        LayerError(f"conv_{n}", "Conv2D", (f"conv_{n - 1}",), f"t{n}", 0.3 if wrong and n > 149 else 0.0, 1e-6)
        for n in range(layers)
    ]
    return CheckReport(
        ModelFacts("some/folder/model.keras", "0" * 64, "keras", 25_000_000, 53, 0),
        ImageFacts("images", images, tuple(f"{n}.png" for n in range(images)), [0] * images, ("a", "b", "c"), ()),
        {},
        "assumed",
        tuple(sides),
        tuple(comparisons),
        (*causes, *notes),
        {},
        "tolerance: 8 noise floors (the distance between Keras in float32 and in float64, on 8 images)",
        tuple(errors),
    )


def lines(report: CheckReport, width: int, *, screen: bool = True, verbose: bool = False) -> list[str]:
    """What is printed; on a screen the lines that it has, after it has wrapped them."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False)
    if verbose:
        show_check(report, console)
    else:
        show_summary(report, console, width=width if screen else None)
    printed = stream.getvalue().splitlines()
    return [line[n : n + width] for line in printed for n in range(0, max(len(line.rstrip()), 1), width)]


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("wrong", ["", "openvino"])
@pytest.mark.parametrize(("images", "layers"), [(3, 0), (1000, 200)])
def test_it_fits_on_a_screen(width: int, wrong: str, images: int, layers: int) -> None:
    """Six targets, a thousand images, two hundred layers and nine findings are at most thirty lines."""
    printed = lines(make(images, layers, wrong=wrong), width)
    assert len(printed) <= 30, "\n".join(printed)
    assert printed[0] == ("FAIL" if wrong else "PASS") + printed[0][4:]
    assert printed[-1].startswith("-v shows ")


def test_the_first_lines_are_verdict_cause_and_command() -> None:
    """The cause takes at most three lines of a screen; the command is whole, so that it can be pasted."""
    report = make(wrong="openvino")
    printed = lines(report, 80)
    assert printed[0] == "FAIL some/folder/model.keras"
    assert printed[1].startswith("EX001 the logits")
    assert [line[:10] for line in printed[2:5]].count("  -> bnexp") == 1
    whole = lines(report, 10_000, screen=False)
    assert whole[1].rstrip() == f"EX001 {SENTENCE * 3}".rstrip()
    assert "\n".join(whole).count(COMMAND) == 1, "a command that several findings have is printed once"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_name_of_a_run_is_cut(width: int) -> None:
    """Columns that do not fit are left out. At sixty columns a long name takes two lines, of which nothing is lost."""
    report = make(wrong="openvino")
    for verbose in (False, True):
        printed = "\n".join(lines(report, width, verbose=verbose))
        assert "onnx-in…" not in printed
        assert "…" not in printed
    table = lines(report, width)
    for run in [s.id for s in report.sides]:
        assert width == 60 or any(line.startswith(f"{run} ") for line in table), run
    assert ("against" in "\n".join(table)) == (width == 120)
    [row] = [line.split() for line in table if line.startswith("onnx-inference@openvino ")]
    assert "off" in row


def test_a_run_has_its_worst_error_and_what_it_is() -> None:
    """Of all outputs the one that fails, or else the one most noise floors away; a run that did not answer is listed."""
    report = make(wrong="mnn")
    ended = Finding("RT015", Severity.ERROR, "the runtime ended", {"side": "onnx-inference@ended"})
    rows = {row.run: row for row in run_rows(replace(report, findings=(*report.findings, ended)))}
    assert rows["keras-inference"].verdict == Verdict.REFERENCE
    assert (rows["keras-training"].verdict, rows["keras-training"].against) == (Verdict.DIFFERS, "keras-inference")
    assert (rows["onnx-inference@mnn"].verdict, rows["onnx-inference@mnn"].error) == (Verdict.OFF, "500,000 floors")
    assert (rows["onnx-inference@tract"].verdict, rows["onnx-inference@tract"].error) == (Verdict.OK, "1 floors")
    assert (rows["onnx-inference@ended"].verdict, rows["onnx-inference@ended"].seconds) == (Verdict.ENDED, None)
    undefined = compare("onnx-inference@tract", "keras-inference", "z", float("nan"), passed=False)
    worst = {row.run: row for row in run_rows(replace(report, comparisons=(*report.comparisons, undefined)))}
    assert worst["onnx-inference@tract"].error == "nan floors"


def test_runs_that_are_wrong_are_listed_before_those_that_agree() -> None:
    """Of twenty runs twelve are shown, among them the last one, which is off."""
    many = tuple(f"t{nth}" for nth in range(20))
    printed = lines(make(targets=many, wrong="t19"), 120)
    assert sum(line.startswith(("onnx-", "keras-")) for line in printed) == MOST_RUNS
    assert any(line.startswith("onnx-inference@t19") for line in printed)
    assert "and 10 more runs, all ok" in printed


def test_the_layer_where_the_error_begins_is_one_line() -> None:
    """A check that fails names it; one that passes lists no layer; -v has the table."""
    failed = make(layers=200, wrong="openvino")
    [line] = [line for line in lines(failed, 120) if "conv_" in line]
    assert line == "first bad layer: conv_150 (Conv2D): error 0.3, 300,000 noise floors; 50 of 200 are off"
    assert not any("conv_" in line for line in lines(make(layers=200), 120))
    assert sum(line.startswith("conv_") for line in lines(failed, 120, verbose=True)) == 200


def test_all_lists_who_answers_what() -> None:
    """Runs that agree share a row, so that six of them fit at any width."""
    printed = lines(make(wrong="tract"), 100, verbose=True)
    start = next(nth for nth, line in enumerate(printed) if line.startswith("image"))
    assert "onnx-inference@tract" not in printed[start + 1]
    assert next(line for line in printed if "1.png" in line).split() == ["1.png", "a", "b", "0.900", "all", "runs"]
    assert any(line.split()[-1:] == ["onnx-inference@tract"] for line in printed[start:])


def test_the_hint_names_what_there_is() -> None:
    """A thousand images and no layers: neither is promised."""
    assert lines(make(images=1000), 120)[-1] == "-v shows tensors and further actions"
    assert lines(make(layers=9), 120)[-1] == "-v shows images, tensors, layers and further actions"


@pytest.mark.parametrize("width", [1, 5, 20, 59, 60, 61, 400])
def test_a_sentence_is_cut_at_a_word(width: int) -> None:
    """Never longer than asked for, but for the dots that say so; what fits stays."""
    short = cut(SENTENCE, width)
    assert len(short) <= max(width, 5)
    assert short == SENTENCE or short.endswith(" ...")
    assert SENTENCE.startswith(short.removesuffix(" ..."))
