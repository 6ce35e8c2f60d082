"""ST001 on real nets: dropout's part of the gap, and BatchNormalization's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnexport import check
from bnexport.results.verdict import Finding, Severity
from tests.e2e import nets

pytestmark = pytest.mark.keras


def found(net: Any, folder: Path) -> dict[str, Finding]:
    net.save(folder / "net.keras")
    np.savez(folder / "data.npz", x=nets.inputs_for(net, 16)[0])
    return {f.code: f for f in check(folder / "net.keras", inputs=folder / "data.npz").findings}


def dense(*, normalised: bool, rate: float) -> Any:
    keras = nets._keras()
    k = keras.layers
    layers = [keras.Input((32,)), k.Dense(64, "relu"), k.Dropout(rate, name="drop")]
    if normalised:
        layers.append(k.BatchNormalization(name="bn"))
    return nets.randomise(keras.Sequential([*layers, k.Dense(4)]))


def test_dropout_alone_is_all_of_the_gap(tmp_path: Path) -> None:
    """Without BatchNormalization nothing else differs between fit and inference."""
    finding = found(dense(normalised=False, rate=0.5), tmp_path)["ST001"]
    assert finding.severity == Severity.INFO
    assert finding.layers == ("drop",)
    assert finding.evidence["random_share"] == 1.0
    assert finding.evidence["batch_normalization_gap"] == 0.0


def test_both_have_their_share(tmp_path: Path) -> None:
    """Little dropout before a normalisation with other statistics: a part, and not the larger one."""
    finding = found(dense(normalised=True, rate=0.05), tmp_path)["ST001"]
    assert 0 < finding.evidence["random_share"] < 0.5
    assert finding.evidence["batch_normalization_gap"] > 0


@pytest.mark.parametrize("rate", [0.0, None])
def test_no_random_layer_no_finding(rate: float | None, tmp_path: Path) -> None:
    """A dropout of 0 counts as none; and the model is left as it was."""
    net = dense(normalised=True, rate=0.0) if rate is not None else nets.BUILDERS["sequential"]()
    assert "ST001" not in found(net, tmp_path)


def test_the_check_does_not_move_the_generators(tmp_path: Path) -> None:
    """The file is not written to, and the passes that decide run without random layers: twice the same numbers."""
    net = nets.randomise(nets.BUILDERS["random-layers"]())
    first, second = found(net, tmp_path), found(net, tmp_path)
    assert first["ST001"].evidence == second["ST001"].evidence
    kinds = {re.sub(r"_\d+$", "", name) for name in first["ST001"].layers}  # Keras counts the layers of a process
    assert kinds == {"random_flip", "random_rotation", "gaussian_noise", "spatial_dropout2d", "dropout"}


def test_a_recurrent_layer_is_one_random_layer(tmp_path: Path) -> None:
    """Its cell draws for it and is no layer of its own; a layer of rate 0 beside it is none, also in memory."""
    keras = nets._keras()
    k = keras.layers
    gru = k.GRU(4, dropout=0.3, return_sequences=True, name="gru")
    lstm = k.LSTM(4, recurrent_dropout=0.3, return_sequences=True, name="lstm")
    both_ways = k.Bidirectional(lstm, name="both")
    cell = k.RNN(k.LSTMCell(4, dropout=0.3, name="cell"), name="by_cell")
    net = keras.Sequential(
        [keras.Input((6, 5)), gru, k.GRU(4, return_sequences=True, name="still"), both_ways, cell, k.Dense(2)]
    )
    finding = found(net, tmp_path)["ST001"]
    assert finding.layers == ("gru", "forward_lstm", "backward_lstm", "cell")
    assert finding.message.startswith("4 random layers")


def test_augmentation_is_random_too(tmp_path: Path) -> None:
    """Layers that augment images draw in fit: what they change is not the dropout's, and not BatchNormalization's."""
    keras = nets._keras()
    k = keras.layers
    body = [k.RandAugment((0, 1), name="many"), k.Flatten(), k.Dropout(1e-3, name="drop"), k.Dense(4)]
    net = nets.randomise(keras.Sequential([keras.Input((8, 8, 3)), k.RandomTranslation(0.4, 0.4, name="move"), *body]))
    finding = found(net, tmp_path)["ST001"]
    assert finding.layers == ("move", "many", "drop")
    assert finding.evidence["scatter"] > 0.05  # dropout of a thousandth alone: 0.01
    assert finding.evidence["random_share"] == 1.0
