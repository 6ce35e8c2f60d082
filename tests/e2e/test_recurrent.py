"""Recurrent layers are exported, and compute what Keras computes, whatever the batch and the length."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bnexport
from bnexport.errors import ExportError
from bnexport.exporter.conversion import graph_of
from bnexport.frameworks.keras import model as keras_model, passes as keras_passes
from bnexport.onnx_graph.protobuf import serialise
from bnexport.runtimes import ort_session
from bnexport.system.files import Format
from tests.e2e import nets

pytestmark = pytest.mark.keras

EPS = float(np.finfo(np.float32).eps)


def _loaded(net: Any) -> keras_model.LoadedModel:
    return keras_model.describe(net, Path("net.keras"), Format.KERAS, "0" * 64)


def _stack(shape: tuple[int | None, ...], *layers: Callable[[Any], Any]) -> Callable[[], Any]:
    """A net of layers, each made from `keras.layers`."""

    def build() -> Any:
        keras = nets._keras()
        return keras.Sequential([keras.Input(shape), *(layer(keras.layers) for layer in layers)])

    return build


def _both_ways(mode: str) -> Callable[[], Any]:
    return _stack((6, 5), lambda k: k.Bidirectional(k.LSTM(4, return_sequences=True), merge_mode=mode))


def _states() -> Any:
    keras = nets._keras()
    x = keras.Input((6, 5))
    y, h, c = keras.layers.LSTM(4, return_state=True)(x)
    return keras.Model(x, [y, keras.layers.LSTM(4)(x, initial_state=[h, c]), c])


VIDEO = (4, 8, 8, 2)
USUAL: dict[str, Callable[[], Any]] = {
    "lstm twice": _stack((None, 5), lambda k: k.LSTM(4, return_sequences=True), lambda k: k.LSTM(3)),
    "gru": _stack((None, 5), lambda k: k.GRU(4)),
    "gru of Keras 2": _stack((6, 5), lambda k: k.GRU(4, reset_after=False, go_backwards=True)),
    "simple": _stack((6, 5), lambda k: k.SimpleRNN(4, return_sequences=True)),
    "bidirectional": _both_ways("concat"),
    "masked bidirectional": _stack(
        (6, 5), lambda k: k.Masking(), lambda k: k.Bidirectional(k.LSTM(4, return_sequences=True)), lambda k: k.GRU(3)
    ),
    "tokens": _stack((7,), lambda k: k.Embedding(20, 5, mask_zero=True), lambda k: k.LSTM(4)),
    "pictures": _stack(VIDEO, lambda k: k.ConvLSTM2D(3, 3), lambda k: k.Flatten()),
    "each in time": _stack(
        VIDEO,
        lambda k: k.TimeDistributed(k.Conv2D(3, 3)),
        lambda k: k.TimeDistributed(k.Flatten()),
        lambda k: k.LSTM(4),
    ),
    "states": _states,
}
OTHERS: dict[str, Callable[[], Any]] = {
    **{f"bidirectional {mode}": _both_ways(mode) for mode in ("sum", "ave", "mul")},
    "bidirectional gru": _stack((None, 5), lambda k: k.Bidirectional(k.GRU(4))),
    "bidirectional simple": _stack((6, 5), lambda k: k.Bidirectional(k.SimpleRNN(4))),
    "lstm backwards": _stack((6, 5), lambda k: k.LSTM(4, go_backwards=True, return_sequences=True)),
    "simple backwards": _stack((6, 5), lambda k: k.SimpleRNN(4, go_backwards=True)),
    "lstm without offset": _stack((6, 5), lambda k: k.LSTM(4, use_bias=False)),
    "other activations": _stack((6, 5), lambda k: k.LSTM(4, activation="relu", recurrent_activation="hard_sigmoid")),
    "gru, hard": _stack((6, 5), lambda k: k.GRU(4, recurrent_activation="hard_sigmoid")),
    "dropout": _stack((6, 5), lambda k: k.LSTM(4, dropout=0.3, recurrent_dropout=0.2)),
    "unrolled": _stack((6, 5), lambda k: k.LSTM(4, unroll=True)),
    "masked simple": _stack((6, 5), lambda k: k.Masking(), lambda k: k.SimpleRNN(4, return_sequences=True)),
    "masked lstm": _stack((None, 5), lambda k: k.Masking(), lambda k: k.LSTM(4, return_sequences=True)),
    "cells": _stack((6, 5), lambda k: k.RNN([k.LSTMCell(4), k.GRUCell(3)])),
    "pictures, in order": _stack(VIDEO, lambda k: k.ConvLSTM2D(3, 3, return_sequences=True, padding="same")),
    "sequences of sequences": _stack((3, 6, 5), lambda k: k.TimeDistributed(k.LSTM(4)), lambda k: k.GRU(3)),
    "encoder and decoder": _stack(
        (6, 5),
        lambda k: k.LSTM(4),
        lambda k: k.RepeatVector(5),
        lambda k: k.LSTM(4, return_sequences=True),
        lambda k: k.TimeDistributed(k.Dense(2)),
    ),
}
NETS = USUAL | (OTHERS if int(os.environ.get("BNEXPORT_SEEDS", "1")) > 1 else {})
"""The usual run has the first ones; BNEXPORT_SEEDS=3 has all."""


def _random(net: Any) -> Any:
    """Every weight gets values of its own, offsets too, which start at 0."""
    rng = np.random.default_rng(0)
    for variable in net.variables:
        if variable.dtype.startswith("float"):
            variable.assign(rng.normal(0, 0.3, variable.shape))
    return net


def _feed(name: str, shape: tuple[int | None, ...], count: int, length: int) -> np.ndarray:
    rng, full = np.random.default_rng(1), (count, *(length if side is None else side for side in shape[1:]))
    if name == "tokens":
        x = rng.integers(1, 20, full).astype("float32")
        x[0, -3:] = 0
        return x
    x = rng.normal(0, 1, full).astype("float32")
    if "masked" in name:
        x[0, -1] = 0
        x[-1, 1] = 0  # in the middle of a sequence
    return x


@pytest.mark.parametrize("name", NETS)
def test_recurrent_nets_match(name: str) -> None:
    """The exported file computes what Keras computes, for one sequence, for several, and for other lengths where these are open."""
    loaded = _loaded(_random(NETS[name]()))
    model = graph_of(loaded, None)
    onnx.checker.check_model(model, full_check=True)
    session, passes = ort_session.Session(serialise(model)), keras_passes.Passes(loaded)
    [given] = loaded.inputs
    for count, length in ((1, 7), (4, 7), (3, 2)):
        feeds = {given.name: _feed(name, given.shape, count, length)}
        ours = session.run(feeds, [info.name for info in model.graph.output])
        for output, expected in passes.run("inference", feeds).items():
            # 16 roundings of numbers as large as the largest, the order of what the 4 to 7 steps of these nets add up.
            np.testing.assert_allclose(
                ours[output], expected, rtol=0, atol=16 * EPS * max(np.abs(expected).max(), 1e-3)
            )


def test_recurrent_layers_become_the_operators_that_onnx_has_for_them() -> None:
    """An LSTM is one LSTM node whose weights are named as in Keras, and a GRU a Loop whose weights are, too."""
    loaded = _loaded(
        _stack((6, 5), lambda k: k.LSTM(4, return_sequences=True, name="a"), lambda k: k.GRU(3, name="b"))()
    )
    model = graph_of(loaded, None)
    assert [node.op_type for node in model.graph.node if node.op_type in ("LSTM", "Loop")] == ["LSTM", "Loop"]
    stored = {tensor.name for tensor in model.graph.initializer}
    ours = {name for name in loaded.weights if name.endswith(("/kernel", "/recurrent_kernel"))}
    assert len(ours) == 4
    assert ours <= stored


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A net with two BatchNormalization layers, one before and one behind a loop, and 16 inputs for it."""
    folder = tmp_path_factory.mktemp("mixed")
    net = _stack(
        (6, 5),
        lambda k: k.Dense(4),
        lambda k: k.BatchNormalization(),
        lambda k: k.GRU(4, return_sequences=True),
        lambda k: k.BatchNormalization(),
        lambda k: k.LSTM(3),
        lambda k: k.Dense(2, "softmax"),
    )()
    net.save(folder / "net.keras")
    x = np.random.default_rng(0).normal(3, 2, (16, 6, 5)).astype("float32")
    np.savez(folder / "x.npz", **{net.inputs[0].name: x})
    return folder / "net.keras", folder / "x.npz"


def test_nets_with_loops_and_batch_normalization_are_recalibrated(mixed: tuple[Path, Path]) -> None:
    """A loop between two BatchNormalization layers stays in one stage: there are a training-mode graph and a trial, and parity holds."""
    model, inputs = mixed
    report = bnexport.check(model, inputs=inputs)
    ids = {side.id for side in report.sides}
    assert {"keras-training", "onnx-training@cpu", "onnx-recalibrated@cpu"} <= ids
    assert not {finding.code for finding in report.findings} & {"EX001", "EX003"}
    assert "BN001" in {finding.code for finding in report.findings}


def test_statistics_behind_a_loop_are_those_of_one_full_batch(mixed: tuple[Path, Path]) -> None:
    """What recalibration measures behind a loop is what Keras' own training pass over all inputs in one batch computes."""
    from bnexport.onnx_graph.sites import sites
    from bnexport.progress import Progress
    from bnexport.recalibration import staged
    from bnexport.recalibration.live import live_tensors

    loaded = keras_model.load(mixed[0])
    graph = graph_of(loaded, None)
    with np.load(mixed[1]) as stored:
        feeds = {loaded.inputs[0].name: next(iter(stored.values()))}
    with live_tensors(None, 1 << 24) as live:
        halves = [{name: x[i : i + 8] for name, x in feeds.items()} for i in (0, 8)]
        measured = staged.measure(graph, halves, 16, live, "cpu", Progress())
    session = ort_session.Session(serialise(_training(graph)))
    for site in sites(graph):
        mean, var = f"{site.name}/batch_mean", f"{site.name}/batch_var"
        whole = session.run(feeds, [mean, var])
        np.testing.assert_allclose(measured.moments[site.name].mean, whole[mean], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(measured.moments[site.name].var, whole[var], rtol=1e-4, atol=1e-5)


def _training(graph: onnx.ModelProto) -> onnx.ModelProto:
    from bnexport.onnx_graph.training_mode import training_mode_graph

    return training_mode_graph(graph)


def _stateful(keras: Any) -> Any:
    x = keras.Input(batch_shape=(2, 6, 5))
    return keras.Model(x, keras.layers.LSTM(4, stateful=True, name="remembers")(x))


def _vectorised(keras: Any) -> Any:
    words = keras.layers.TextVectorization(vocabulary=["yes", "no"], output_sequence_length=4, name="words")
    x = keras.Input((1,), dtype="string", name="text")
    return keras.Model(x, keras.layers.Embedding(5, 3)(words(x)))


def _looked_up(keras: Any) -> Any:
    x = keras.Input((3,), dtype="int64")
    return keras.Model(x, keras.layers.Embedding(9, 2)(keras.layers.IntegerLookup(vocabulary=[7, 9], name="ids")(x)))


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (_stateful, r"EX002: the layer remembers is stateful.*stateful=False"),
        (_vectorised, r"EX002: an exported file cannot read text \(input text\).*export the part after the layer"),
        (_looked_up, r"EX002: the layer ids uses a lookup table.*export the part of the model after it"),
    ],
)
def test_what_a_file_cannot_hold_is_named(build: Callable[[Any], Any], sentence: str) -> None:
    """A state, text and a table are refused in one sentence that names the layer or the input, and says what to do."""
    with pytest.raises(ExportError, match=sentence):
        graph_of(_loaded(build(nets._keras())), None)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("backwards", [True, False])
def test_the_output_of_a_loop_is_compared_and_not_its_state(kind: str, backwards: bool) -> None:
    """A Scan gives out both states of an LSTM, which have one shape: the layer is the one that is read, and a sound layer is not off."""
    keras = nets._keras()
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 3))
    layer = getattr(keras.layers, kind)(5, recurrent_activation="hard_sigmoid", go_backwards=backwards, name="loop")
    model = keras.Model(inputs, keras.layers.Dense(2)(layer(inputs)))
    x = np.random.default_rng(0).normal(0, 2, (5, 6, 3)).astype(np.float32)
    report = bnexport.check(model, x, layers=True)
    assert report, str(report)
    [error] = [one for one in report.layers if one.name == "loop"]
    assert error.known
    assert not error.off


def test_a_softmax_beside_its_logits_is_compared_by_its_own_output() -> None:
    """Where a model gives out the logits, too, their copy is not the output of the softmax layer."""
    keras = nets._keras()
    inputs = keras.Input((3,))
    logits = keras.layers.Dense(4, name="scores")(inputs)
    model = keras.Model(inputs, [logits, keras.layers.Softmax(name="head")(logits)])
    report = bnexport.check(model, np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32), layers=True)
    assert report, str(report)
    assert not [layer.name for layer in report.layers if layer.off]
    assert {"scores", "head"} <= {layer.name for layer in report.layers if layer.known}
