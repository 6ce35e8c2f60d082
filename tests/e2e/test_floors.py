"""The measured tolerance: no false alarm on any net, and what happens where nothing can be measured."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bnexport import check
from bnexport.comparison import floors, references, sides
from bnexport.comparison.engine import compare
from bnexport.comparison.reference import Reference
from bnexport.comparison.tally import Tally
from bnexport.datasets.feeds import Feed
from bnexport.frameworks.keras import model as keras_model
from bnexport.frameworks.keras.passes import Mode, Passes
from bnexport.frameworks.keras.reference import KerasModel
from bnexport.frameworks.protocols import Want
from bnexport.frameworks.registry import framework_named
from bnexport.onnx_graph import weights
from bnexport.onnx_graph.outputs import squashing_functions
from bnexport.onnx_graph.sites import sites as sites_of
from bnexport.progress import Progress
from bnexport.results import tolerance
from bnexport.results.heads import Heads
from bnexport.results.tolerance import Tolerances
from bnexport.system.cache import NOTHING_KEPT
from bnexport.system.files import Format
from tests.e2e import nets
from tests.e2e.test_export import exported_from_file

pytestmark = pytest.mark.keras

MODES: tuple[Mode, ...] = ("inference", "training")
SEEDS = range(3)
COUNT = int(os.environ.get("BNEXPORT_SEEDS", "1"))
USUAL = ("MobileNetV2", "MobileNetV3Small", "EfficientNetV2B0")
"""What CI has time for; BNEXPORT_SEEDS=3 has all. The demo is a ResNet50."""

FAMILIES = [name for name in nets.FAMILIES if COUNT > 1 or name in USUAL]


class Loaded(Reference):
    """A model that is loaded and may be changed."""

    def __init__(self, loaded: keras_model.LoadedModel) -> None:
        self.path, self.store = loaded.path, NOTHING_KEPT
        self.loaded = loaded
        self.recognition = framework_named("keras", "keras")
        self._model, self._key = KerasModel(self.loaded), ""


def failures(net: Any, seed: int, batch: int, reference: Loaded, runners: list[sides.Runner], graph: Any) -> list[str]:
    """What a check with default settings would call a difference, as `bnexport.checking.check` does it."""
    values = nets.inputs_for(net, batch, seed)
    feed = Feed(
        {t.name: x for t, x in zip(reference.loaded.inputs, values, strict=True)},
        tuple(map(str, range(batch))),
        np.full(batch, -1),
    )
    half = reference.loaded.dtype == "float16"
    measured = floors.measure(reference, feed, MODES).floors
    assert max(measured.values()) < 1e-3, "floors so large would let anything pass"
    tolerances = Tolerances(measured, floors.IMAGES, "", half=half)
    names = tuple(output.name for output in graph.graph.output)
    squash = {output: kind for output, (_, kind) in squashing_functions(graph).items()}
    tally = Tally([run.spec for run in runners], Heads(names, squash), tolerances)
    compare([feed], runners, tally, Progress())
    floors.where_lost(tally, reference, Progress())
    judged = [c for c in tally.judge((), ())[0] if c.actual.startswith("onnx")]
    assert {c.actual for c in judged} == {runner.id for runner in runners if runner.spec.artifact}
    return [f"seed {seed}, batch {batch}, {c.actual}, {c.tensor}: {c.reason}" for c in judged if not c]


def alarms(
    loaded: keras_model.LoadedModel, graph: Any, seeds: Sequence[int] = SEEDS, batches: Sequence[int] = (1, 8)
) -> list[str]:
    """All of them over seeds and batch sizes; each seed's parameters of the normalisations are put into the exported graph."""
    reference, found = Loaded(loaded), []
    net = loaded.keras
    for seed in seeds:
        nets.randomise(net, seed)
        new = {path: np.asarray(variable) for path, variable in reference.loaded.weights.items() if "/" in path}
        stored = weights.initializers(graph)
        weights.set_initializers(
            graph, {n: new[n].astype(v.dtype) if n in new and v.ndim == 1 else v for n, v in stored.items()}
        )
        runners = nets.runs_of(reference.run) + sides.onnx_sides(graph, ["cpu"])
        for batch in batches:
            found += failures(net, seed, batch, reference, runners, graph)
    return found


def assert_the_graphs_floors_are_near(
    loaded: keras_model.LoadedModel, graph: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, budgets: Sequence[float]
) -> None:
    """The floors of the file alone, by moved weights (no budget) and in float64, are within a factor of four of Keras' own.

    Compared is what a tolerance is made of, which is never less than 16 float32 eps.
    """
    if loaded.dtype == "float16":
        return  # compared in a stated tolerance
    onnx.save(graph, folder / "graph.onnx")
    inputs = {t.name: x for t, x in zip(loaded.inputs, nets.inputs_for(loaded.keras, 8, 0), strict=True)}
    feed = Feed(inputs, tuple("12345678"), np.full(8, -1))
    wanted = floors.measure(Loaded(loaded), feed, ("inference",)).floors
    for budget in budgets:
        monkeypatch.setattr(references, "BUDGET", budget)
        alone = references.open_reference(folder / "graph.onnx", Want(), NOTHING_KEPT, Progress())
        measured = floors.measure(alone, feed, ("inference",))
        assert ("one unit" in measured.method) == (not budget)
        assert measured.floors.keys() == wanted.keys()
        for key, floor in measured.floors.items():
            one, other = (max(x, tolerance.LEAST / tolerance.FLOORS) for x in (floor, wanted[key]))
            assert 0.25 < one / other < 4, (key, floor, wanted[key])


@pytest.mark.parametrize("name", nets.BUILDERS)
def test_no_false_alarm(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every special net passes in both modes, at batch 1 and 8, with one seed, or three (BNEXPORT_SEEDS=3); the floors of the file alone are near."""
    loaded, graph = exported_from_file(nets.BUILDERS[name](), tmp_path)
    assert_the_graphs_floors_are_near(loaded, graph, tmp_path, monkeypatch, (0, 60))
    assert alarms(loaded, graph, SEEDS[:COUNT]) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_no_false_alarm_on_a_family(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every family of keras.applications, exported from its file, passes in both modes at batch 8; with three seeds, and at batch 1 too, where there is time for it (BNEXPORT_SEEDS=3)."""
    loaded, graph = exported_from_file(nets.FAMILIES[name](), tmp_path)
    assert len(sites_of(graph)) == loaded.layers
    assert_the_graphs_floors_are_near(loaded, graph, tmp_path, monkeypatch, (0, 900) if COUNT > 1 else (0,))
    assert alarms(loaded, graph, SEEDS[:COUNT], (1, 8) if COUNT > 1 else (8,)) == []


def test_float64_leaves_the_model_as_it_was() -> None:
    """The same weights, the same policies, and the same float32 pass before and after; the float64 pass is what a float64 model computes."""
    keras = nets._keras()
    net = nets.randomise(nets.BUILDERS["sequential"]())
    passes = Passes(keras_model.describe(net, Path("n.keras"), Format.KERAS, "0" * 64))
    feeds = {net.inputs[0].name: nets.inputs_for(net, 4)[0]}
    before = {mode: passes.run(mode, feeds) for mode in MODES}
    policies = [layer.dtype_policy.name for layer in net.layers]
    wide = passes.run_in_float64("inference", feeds)
    assert policies == [layer.dtype_policy.name for layer in net.layers]
    assert {variable.dtype for variable in net.variables} == {"float32"}
    for mode in MODES:
        for name, value in passes.run(mode, feeds).items():
            np.testing.assert_array_equal(value, before[mode][name])
    twin = keras.models.clone_model(
        net, clone_function=lambda layer: type(layer).from_config({**layer.get_config(), "dtype": "float64"})
    )
    twin.set_weights(net.get_weights())
    theirs = np.asarray(twin(feeds[net.inputs[0].name].astype("float64"), training=False))
    np.testing.assert_allclose(
        wide[passes._loaded.outputs[0]], theirs, rtol=1e-12
    )  # float64, other order of operations


def test_a_model_that_cannot_be_widened_says_so(tmp_path: Path) -> None:
    """A layer that computes in float32 whatever it is told: the check goes on with a stated tolerance, and says why."""
    keras = nets._keras()

    @keras.saving.register_keras_serializable("tests")
    class Stubborn(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            if x.dtype != "float32":
                raise TypeError("this layer knows float32 only")
            return x * 2

    x = keras.Input((4,))
    keras.Model(x, Stubborn()(keras.layers.Dense(4)(x))).save(tmp_path / "net.keras")
    np.savez(tmp_path / "data.npz", x=np.ones((2, 4), np.float32))
    report = check(tmp_path / "net.keras", inputs=tmp_path / "data.npz", trust=True)
    assert report, report.findings
    assert "cannot compute in float64" in report.tolerance
    assert {c.noise_floors for c in report.comparisons} == {None}


def test_a_training_graph_alone_that_rounds_more_is_no_fault_of_the_export(tmp_path: Path) -> None:
    """D6: onnxruntime adds up 800,000 values of one channel in float32 one after the other: EX007 warns, and the file may be deployed."""
    keras = nets._keras()
    x = keras.Input((224, 224, 1), name="x")
    net = keras.Model(x, keras.layers.BatchNormalization(name="bn")(x))
    net.get_layer("bn").moving_mean.assign([0.5])
    net.save(tmp_path / "net.keras")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=rng.normal(0.5, 1, (16, 224, 224, 1)).astype("f"))
    report = check(tmp_path / "net.keras", inputs=tmp_path / "data.npz", providers=["cpu"])
    assert report, str(report)
    [finding] = [finding for finding in report.findings if finding.code == "EX007"]
    assert finding.severity == "warning"
    assert (finding.evidence["actual"], finding.evidence["reference"]) == ("onnx-training@cpu", "keras-training")
    assert "The inference graph, which is deployed, agrees with Keras" in finding.message
    passed = {c.actual: bool(c) for c in report.comparisons if c.reference.startswith("keras")}
    assert passed["onnx-inference@cpu"]
    assert not passed["onnx-training@cpu"]
    assert "EX001" not in {finding.code for finding in report.findings}


@pytest.mark.parametrize("layer", ["LayerNormalization", "GroupNormalization"])
def test_a_normalisation_of_the_inputs_has_its_floor(layer: str, tmp_path: Path) -> None:
    """With a mean of 100 it rounds to 1e-5, which the pass in float64 shows although the model's inputs are float32."""
    keras = nets._keras()
    net = keras.Sequential(
        [keras.Input((4, 4, 8)), getattr(keras.layers, layer)(**({"groups": 4} if "Group" in layer else {}))]
    )
    net.save(tmp_path / "net.keras")
    x = 100 + np.random.default_rng(0).normal(size=(4, 4, 4, 8)).astype(np.float32)
    report = check(tmp_path / "net.keras", x)
    assert report, str(report)
    [compared] = [c for c in report.comparisons if (c.actual, c.reference) == ("onnx-inference@cpu", "keras-inference")]
    assert compared.difference.max_rel > 1e-6
    assert compared.noise_floors is not None
    assert compared.noise_floors < 4
