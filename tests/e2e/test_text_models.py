"""Keras models that read text, against ONNX files of others: bnexport exports none itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from bnexport import check
from bnexport.results.verdict import CheckReport
from tests.e2e import nets

pytestmark = pytest.mark.keras

LOOKED_UP = """g (string[N, 2] words) => (float[N, 2, 3] y) {
    ids = ai.onnx.ml.LabelEncoder<keys_strings = ["a", "b"], values_int64s = [1, 2], default_int64 = 0>(words)
    y = Gather(table, ids) }"""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    keras = nets._keras()
    words = keras.Input((2,), dtype="string", name="words")
    ids = keras.layers.StringLookup(vocabulary=["a", "b"], name="lookup")(words)
    net = keras.Model(words, keras.layers.Embedding(3, 3, name="y")(ids))
    net.save(folder / "net.keras")
    (folder / "net.onnx").write_bytes(graph(net.layers[-1].get_weights()[0]).SerializeToString())
    np.savez(folder / "words.npz", words=np.random.default_rng(0).choice(["a", "b", "other"], (6, 2)))
    return folder


def graph(table: Any) -> onnx.ModelProto:
    model = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 17, "ai.onnx.ml" : 3]> {LOOKED_UP}')
    model.graph.initializer.append(numpy_helper.from_array(table, "table"))
    return model


def held(room: Path, file: str) -> CheckReport:
    return check(room / "net.keras", inputs=room / "words.npz", onnx=room / file, providers=["cpu"])


def test_a_lookup_is_compared(room: Path) -> None:
    """V7: the file of another exporter passes, and one with the words exchanged does not."""
    report = held(room, "net.onnx")
    assert report, str(report)
    model = onnx.load(room / "net.onnx")
    model.graph.node[0].attribute[0].strings[:] = [b"b", b"a"]
    (room / "other.onnx").write_bytes(model.SerializeToString())
    assert not held(room, "other.onnx")
