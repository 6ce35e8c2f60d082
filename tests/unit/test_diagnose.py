"""The diagnosis from numbers alone; tests/e2e/test_diagnose.py has the same causes produced by real training."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bnexport.numerics.drift import UNEXPLAINED, Statistics, Warmed, misfit, warm_up, without_initial
from bnexport.numerics.variety import Variety
from bnexport.results.preprocessing import Order, Preprocessing, Resize, Scaling
from bnexport.results.verdict import Comparison, Difference, Finding, Severity
from bnexport.rules import modes, preparations, preprocessing
from bnexport.rules.diagnose import Evidence, diagnose
from bnexport.rules.measured import Right

RNG = np.random.default_rng(0)
BEGINNING = RNG.bit_generator.state
VARIED = Variety()
VARIED.add([str(i) for i in range(100)], {"x": RNG.random((100, 4, 4, 1))})


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Each test draws the same numbers, whichever ran before it."""
    RNG.bit_generator.state = BEGINNING


def site(
    left: float, name: str = "bn", noise: float = 0.0, momentum: float | None = 0.99, **changed: np.ndarray | None
) -> Statistics:
    """A site after a warm-up that left the share `left` of the initial values."""
    mean, var = RNG.normal(0, 2, 64), RNG.uniform(0.01, 9, 64)
    values = {
        "mean": (1 - left) * mean * (1 + noise * RNG.normal(size=64)),
        "var": left + (1 - left) * var * np.exp(noise * RNG.normal(size=64)),
        "gamma": RNG.uniform(0.9, 1.1, 64),
        "beta": RNG.normal(0, 0.1, 64),
    } | {name: value for name, value in changed.items() if value is not None}
    return Statistics(name, values["mean"], values["var"], mean, var, 1e-3, momentum, values["gamma"], values["beta"])


def found(*sites: Statistics, differ: bool = True, iterations: int | None = None) -> dict[str, Finding]:
    return {f.code: f for f in diagnose(Evidence(sites, VARIED), answers_differ=differ, stored_iterations=iterations)}


@pytest.mark.parametrize("updates", [1, 5, 20, 69, 200, 400])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_updates_are_counted(updates: int, noise: float) -> None:
    """The estimate is within 20 % as long as something is left to count by; without noise it is exact."""
    fit = warm_up([site(0.99**updates, str(i), noise) for i in range(4)])
    assert fit.updates == pytest.approx(updates, rel=0.2 if noise else 1e-9)
    assert fit.initial_weight == pytest.approx(0.99**updates, rel=1e-9 if not noise else 0.2)


def test_stale_statistics_say_what_would_have_helped() -> None:
    """BN001 has the estimate, the counter in the file, and how many updates or which momentum leave 1 %."""
    finding = found(site(0.99**5, "a"), site(0.99**5, "b"), iterations=5)["BN001"]
    assert finding.severity == Severity.ERROR
    assert finding.evidence["estimated_updates"] == pytest.approx(5)
    assert finding.evidence["initial_weight"] == pytest.approx(0.951, abs=1e-3)
    assert finding.evidence["r_squared"] == pytest.approx(1)
    assert finding.evidence["stored_iterations"] == 5
    assert finding.evidence["updates_needed"] == math.ceil(math.log(0.01) / math.log(0.99)) == 459
    assert finding.evidence["momentum_needed"] == pytest.approx(0.01 ** (1 / 5))
    assert finding.layers == ("a", "b")


def test_stale_statistics_that_change_no_answer_are_a_warning() -> None:
    """Where both modes answer alike, nothing is broken yet."""
    assert found(site(0.5), differ=False)["BN001"].severity == Severity.WARNING


def test_converged_statistics_are_left_alone() -> None:
    """A healthy site, exact or with the noise of sampling, has no finding."""
    for noise in (0.0, 0.01, 0.1):
        assert found(*(site(0.0, str(i), noise) for i in range(4))) == {}


def test_other_data_is_no_warm_up() -> None:
    """Statistics of other data, and of the same data on another scale, are not called stale."""
    other = [site(0.0, str(i)) for i in range(4)]
    strangers = [
        Statistics(s.name, t.mean, t.var, s.seen_mean, s.seen_var, s.epsilon, s.momentum, s.gamma, s.beta)
        for s, t in zip(other, other[1:] + other[:1], strict=True)
    ]
    assert "BN001" not in found(*strangers)
    scaled = [
        Statistics(
            s.name, s.mean * 255, s.var * 255**2, s.seen_mean, s.seen_var, s.epsilon, s.momentum, s.gamma, s.beta
        )
        for s in other
    ]
    assert "BN001" not in found(*scaled)


def test_statistics_that_were_never_loaded() -> None:
    """BN002: exactly 0 and 1 while gamma and beta moved; an untrained layer is not blamed."""
    fresh = {"mean": np.zeros(64), "var": np.ones(64)}
    finding = found(site(0.0, "a"), site(0.0, "lost", **fresh))["BN002"]
    assert finding.layers == ("lost",)
    assert (
        found(site(0.0, "a"), site(1.0, "untrained", gamma=np.ones(64), beta=np.zeros(64), **fresh)).get("BN002")
        is None
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_broken_statistics_name_layer_and_channel(bad: float) -> None:
    """BN003 names where; the rest is still diagnosed."""
    broken = np.ones(64)
    broken[7] = bad
    finding = found(site(0.0, "fine"), site(0.0, "broken", var=broken))["BN003"]
    assert finding.evidence["channels"] == {"broken": [7]}
    assert "channel 7" in finding.message


def test_an_unknown_momentum_gives_no_count() -> None:
    """Files that do not say the momentum still show how much of the initial values is left."""
    finding = found(site(0.9, momentum=None))["BN001"]
    assert finding.evidence["estimated_updates"] is None
    assert "90% of the initial values remain" in finding.message


def comparison(differing: int, images: int = 100) -> Comparison:
    difference = Difference(images, 1.0, 0.5, 0.1, 0.5, 0.9, 6.0, 0, 0)
    return Comparison("training", "inference", "logits", difference, math.inf, 1 - differing / images, True)


@pytest.mark.parametrize(
    ("differing", "right", "causes", "severity"),
    [
        (0, None, ["BN001"], None),
        (2, None, [], Severity.INFO),
        (30, None, [], Severity.WARNING),
        (2, None, ["BN001"], Severity.ERROR),
        (2, None, ["unknown"], Severity.ERROR),
        (10, Right(100, 90, 90, 5, 5), [], Severity.WARNING),
        (
            60,
            Right(100, 100, 40, 60, 0),
            [],
            Severity.WARNING,
        ),  # training mode is the worse one: a head on frozen statistics
        (60, Right(100, 40, 100, 0, 60), [], Severity.ERROR),
        (4, Right(100, 95, 97, 1, 3), [], Severity.INFO),  # within chance
    ],
)
def test_modes_that_differ_are_an_error_only_with_a_reason(
    differing: int, right: Right | None, causes: list[str], severity: Severity | None
) -> None:
    """BN005 fails a check where the statistics are wrong or labels show a loss, and not because a healthy net differs in a few images."""
    finding = modes.modes_disagree(comparison(differing), right=right, causes=causes, remedy=())
    assert (finding and finding.severity) == severity


def spec(scaling: Scaling, **others: Any) -> Preprocessing:
    return Preprocessing((8, 8), 3, scaling=scaling, **others)


def refit(
    off: float, scaling: Scaling = Scaling.NONE, *, warmed: Warmed = UNEXPLAINED, **others: Any
) -> preparations.Refit:
    """What another preparation gives for images that are prepared raw, R G B, by Lanczos."""
    return preparations.Refit(spec(Scaling.NONE), spec(scaling, **others), off, warmed)


OFF = [replace(site(0.0, var=np.full(64, 1e6)), first=True)]


def test_candidates() -> None:
    """From what is known to every other scaling and channel order; colours for colour images only; without knowledge from each simple scaling to each."""
    grey = preparations.candidates(Preprocessing((8, 8), 1, scaling=Scaling.UNIT), 1)
    assert [new.scaling for _, new in grey] == [Scaling.NONE, Scaling.MINUS_ONE_ONE]
    coloured = [(new.scaling, new.order) for _, new in preparations.candidates(spec(Scaling.NONE), 3)]
    assert len(coloured) == len(set(coloured)) == 4 + 4
    assert (Scaling.CAFFE, Order.BGR) not in coloured
    assert len(preparations.candidates(None, 1)) == 6
    assert len(preparations.candidates(None, 3)) == 7
    assert {old.scaling for old, _ in preparations.candidates(None, 1, (0.0, 127.5))} == {Scaling.NONE}
    assert Scaling.UNIT not in {old.scaling for old, _ in preparations.candidates(None, 1, (-0.9, 1.0))}
    assert preparations.candidates(None, 1, (-128.0, 300.0)) == []


def test_scalings_that_cannot_be_told_apart_are_named() -> None:
    """IN001 says so where two fit about as well, names the one that fits best first, and offers a command for each."""
    finding = preprocessing.wrong_preparation(
        OFF, 100, [refit(0.03, Scaling.MINUS_ONE_ONE), refit(0.028, Scaling.TORCH), refit(3.0, Scaling.UNIT)]
    )
    assert finding is not None
    assert finding.evidence["scaling_that_fits"] == "torch"
    assert [a.command.split()[-1] for a in finding.actions if a.command] == ["torch", "minus-one-one"]
    assert finding.evidence["also_fit"] == ["minus-one-one"]
    assert "minus-one-one cannot be distinguished from it" in finding.message


@pytest.mark.parametrize(("with_bgr", "named"), [(0.05, True), (0.15, False)])
def test_the_channel_order_must_fit_much_better(with_bgr: float, named: bool) -> None:
    """Other images change as much as the order of the channels does: it is named where it fits three times as well, else it cannot be told."""
    finding = preprocessing.wrong_preparation(
        OFF, 100, [refit(0.2, Scaling.UNIT), refit(with_bgr, Scaling.UNIT, order=Order.BGR)]
    )
    assert finding is not None
    assert (finding.evidence.get("order_that_fits") == "bgr") == named
    assert ("channel order cannot be determined" in finding.message) == (not named)
    assert ("--channel-order bgr" in finding.fix[0]) == named


def test_the_resize_kernel_of_the_training_images() -> None:
    """On the training images themselves the right kernel gives their statistics exactly: a warning, although the first layer is within its limit."""
    near = [replace(s, seen_mean=s.mean + 0.02 * np.sqrt(s.var)) for s in [replace(site(0.0), first=True)]]
    finding = preprocessing.wrong_preparation(
        near, 3, [refit(0.015, resize=Resize.PIL_BOX), refit(1e-6, resize=Resize.TF_BILINEAR)]
    )
    assert finding is not None
    assert finding.severity == Severity.WARNING
    assert finding.evidence["resize_that_fits"] == "tf-bilinear"
    assert preprocessing.wrong_preparation(near, 3, [refit(0.01, resize=Resize.TF_BILINEAR)]) is None


def test_a_first_site_that_nothing_mends_is_other_data() -> None:
    """IN002 where no candidate fits, and neither where the site fits as it is."""
    fine = [replace(site(0.0), first=True)]
    assert preprocessing.wrong_preparation(OFF, 100, [refit(3.0, Scaling.UNIT)]) is None
    assert preprocessing.other_data(OFF, 100) is not None
    assert preprocessing.other_data(fine, 100) is None


def test_more_than_everything_cannot_be_left() -> None:
    """Statistics that a warm-up of 133 % would explain best have another cause."""
    grown = site(1.33, var=None)
    grown = replace(grown, var=np.abs(grown.var))
    assert warm_up([grown]).initial_weight > 1.1
    assert "BN001" not in found(grown)


def seen_as(s: Statistics, factor: float, *, first: bool = True) -> Statistics:
    """A site whose input is so many times what it was in training."""
    return replace(s, seen_mean=s.seen_mean * factor, seen_var=s.seen_var * factor**2, first=first)


@pytest.mark.parametrize("factor", [255.0, 1 / 255])
@pytest.mark.parametrize("left", [0.99**2, 0.99**20, 0.99**60])
def test_a_wrong_scaling_is_named_behind_stale_statistics(left: float, factor: float) -> None:
    """IN001 and BN001: with the right scaling what is left of the initial values explains the first layer, and it does all others anyway."""
    true = site(left, "first", 0.002)
    later = [site(left, str(i), 0.002) for i in range(3)]
    right = refit(misfit([true]), Scaling.UNIT, warmed=without_initial([true]))
    wrong = refit(misfit([true]), Scaling.MINUS_ONE_ONE, warmed=without_initial([seen_as(true, 2)]))
    first = seen_as(true, factor)
    evidence = Evidence([first, *later], VARIED, [right, wrong])
    result = {f.code: f for f in diagnose(evidence, answers_differ=True, stored_iterations=None)}
    assert result["IN001"].evidence["scaling_that_fits"] == "unit"
    assert result["IN001"].evidence["initial_weight"] == pytest.approx(left, rel=0.02)
    assert "initial values" in result["IN001"].message
    assert result["BN001"].evidence["initial_weight"] == pytest.approx(left, rel=0.02)
    assert "IN002" not in result


@pytest.mark.parametrize("later", [0.0, 0.1, 0.3])
def test_a_first_layer_alone_is_not_taken_for_stale(later: float) -> None:
    """IN002: a scaling and a share of initial values explain the first layer, and the later ones have another share."""
    true = site(0.95, "first", 0.002)
    right = refit(misfit([true]), Scaling.UNIT, warmed=without_initial([true]))
    evidence = Evidence([seen_as(true, 1 / 255), *(site(later, str(i), 0.002) for i in range(3))], VARIED, [right])
    result = {f.code for f in diagnose(evidence, answers_differ=True, stored_iterations=None)}
    assert "IN001" not in result
    assert "IN002" in result


def test_the_right_scaling_of_stale_statistics_is_left_alone() -> None:
    """BN001 alone: nothing else fits better."""
    true = replace(site(0.9, "first", 0.01), first=True)
    others = [
        refit(misfit([true]), scaling, warmed=without_initial([seen_as(true, factor)]))
        for scaling, factor in ((Scaling.UNIT, 1 / 255), (Scaling.MINUS_ONE_ONE, 2 / 255))
    ]
    evidence = Evidence([true, site(0.9, "b", 0.01)], VARIED, others)
    assert {f.code for f in diagnose(evidence, answers_differ=True, stored_iterations=None)} == {"BN001"}


def test_other_data_do_not_hide_stale_statistics() -> None:
    """BN001 and IN002: no scaling explains the first layer, and the later ones say that the statistics are stale; converged ones do not."""
    for left, expected in ((0.9, {"BN001", "IN002"}), (0.0, {"IN002"})):
        evidence = Evidence(
            [seen_as(site(left, "first"), 1 / 255), *(site(left, str(i), 0.01) for i in range(3))], VARIED
        )
        found_codes = {f.code for f in diagnose(evidence, answers_differ=True, stored_iterations=None)}
        assert found_codes == expected


def test_layers_that_learnt_otherwise_are_not_taken_for_stale() -> None:
    """IN002 alone: means and variances that are small beside what is seen look like initial values, and what is left of them fits nothing."""
    strangers = [
        replace(site(0.0, str(i)), mean=RNG.normal(0, 0.3, 64), var=RNG.uniform(0.5, 1.5, 64)) for i in range(3)
    ]
    later = [replace(s, seen_mean=s.seen_mean * 5, seen_var=s.seen_var * 25) for s in strangers]
    assert warm_up(later).r_squared > 0.9
    evidence = Evidence([seen_as(site(0.0, "first"), 1 / 255), *later], VARIED)
    assert {f.code for f in diagnose(evidence, answers_differ=True, stored_iterations=None)} == {"IN002"}
