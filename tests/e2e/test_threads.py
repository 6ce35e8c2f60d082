"""Two checks in two threads of one process give what each gives alone, and leave Keras as it was."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bnexport
from bnexport.frameworks.keras.patch import method_replaced
from bnexport.reporting import json as as_json
from tests.e2e import nets

pytestmark = pytest.mark.keras


def _answers(model: Path, pictures: Path) -> tuple[Any, ...]:
    report = as_json.check(bnexport.check(model, pictures))
    codes = sorted((finding["code"], finding["message"]) for finding in report["findings"])
    errors = [(c["actual"], c["reference"], c["tensor"], c["max_rel"]) for c in report["comparisons"]]
    return report["verdict"], codes, errors


@pytest.mark.parametrize(
    "pair", [("tiny_residual.keras", "tiny_residual.keras"), ("tiny_residual.h5", "tiny_residual.onnx")]
)
def test_checks_beside_each_other_give_what_each_gives_alone(models: Path, pair: tuple[str, str]) -> None:
    """The verdict, the findings and every error are the same, for one model twice and for two models; nothing stays patched."""
    nets._keras()
    from keras.layers import BatchNormalization, Layer

    before = BatchNormalization.call, Layer.__call__
    alone = {name: _answers(models / name, models / "three") for name in pair}
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda name: (name, _answers(models / name, models / "three")), pair))
    for name, answer in answers:
        assert answer == alone[name]
    assert (BatchNormalization.call, Layer.__call__) == before


def test_a_patch_is_gone_after_an_error_and_never_reaches_another_thread() -> None:
    """While one thread has replaced a layer's method, a model of the user's in another computes what it always does."""
    keras = nets._keras()
    layer = keras.layers.BatchNormalization()
    layer.build((None, 3))
    original, x = type(layer).call, np.ones((2, 3), "float32")
    expected = np.asarray(layer(x))
    others: list[Any] = []

    def fail() -> None:
        with method_replaced(type(layer), "call", lambda _, inputs, **__: inputs * 0):
            assert not np.asarray(layer(x)).any()
            beside = threading.Thread(target=lambda: others.append(np.asarray(layer(x))))
            beside.start()
            beside.join()
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert type(layer).call is original
    np.testing.assert_array_equal(others[0], expected)


def test_replacements_of_two_threads_wait_for_each_other() -> None:
    """A second thread that replaces the method begins when the first has restored it, so that both restore Keras' own."""
    keras = nets._keras()
    owner = keras.layers.BatchNormalization
    original, inside, go_on = owner.call, threading.Event(), threading.Event()
    seen: list[Any] = []

    def first() -> None:
        with method_replaced(owner, "call", lambda *_: None):
            inside.set()
            go_on.wait(10)

    def second() -> None:
        inside.wait(10)
        with method_replaced(owner, "call", lambda *_: None) as before:
            seen.append(before)

    threads = [threading.Thread(target=target) for target in (first, second)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    threads[1].join(0.2)
    assert not seen
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert seen == [original]
    assert owner.call is original
