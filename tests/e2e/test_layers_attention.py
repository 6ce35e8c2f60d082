"""Attention layers exported from the file alone compute what Keras computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as L  # noqa: N812 - as Keras users write it

from tests.exported import agree

pytestmark = pytest.mark.keras

KEPT = {
    1: (np.array([[True, False, True, True, False]]), np.array([[False, True, True, False, True, False, True]])),
    3: (
        np.array([[True, False, True, True, False], [False] * 5, [True] * 5]),
        np.array(
            [
                [True, True, False, True, False, False, True],
                [False, False, True, True, True, True, True],
                [False, False, False, False, False, False, False],
            ]
        ),
    ),
}
"""Masks of queries and of keys, one example with all of its keys masked."""


def _queries(*, length: int | None = None, width: int = 6) -> tuple[Any, Any, Any]:
    import keras

    return (
        keras.Input((length, width), name="q"),
        keras.Input((length, width), name="v"),
        keras.Input((length, width), name="k"),
    )


def _dot() -> Any:
    import keras

    k = keras.layers
    q, v, key = _queries()
    outputs = []
    for kind in (
        k.Attention,
        lambda **o: k.Attention(use_scale=True, **o),
        lambda **o: k.Attention(score_mode="concat", use_scale=True, **o),
        lambda **o: k.Attention(score_mode="concat", dropout=0.2, **o),
        k.AdditiveAttention,
        lambda **o: k.AdditiveAttention(use_scale=False, **o),
    ):
        outputs += [kind()([q, v]), *kind()([q, v, key], return_attention_scores=True, use_causal_mask=True)]
    return keras.Model([q, v, key], outputs)


def _masked_dot() -> Any:
    import keras

    k = keras.layers
    q, v, key = _queries()
    q_kept, v_kept = (
        keras.Input((None,), dtype="bool", name="q_kept"),
        keras.Input((None,), dtype="bool", name="v_kept"),
    )
    outputs = [
        k.Attention()([q, v, key], mask=[q_kept, v_kept, v_kept]),
        *k.AdditiveAttention()([q, v], mask=[q_kept, v_kept], return_attention_scores=True),
        k.Attention(use_scale=True)([q, v], mask=[q_kept, v_kept], use_causal_mask=True),
    ]
    return keras.Model([q, v, key, q_kept, v_kept], outputs)


def _heads(**call: Any) -> Any:
    """Every option of MultiHeadAttention and GroupQueryAttention."""
    import keras

    k = keras.layers
    q, v, key = _queries()
    outputs = []
    for layer in (
        k.MultiHeadAttention(2, 3),
        k.MultiHeadAttention(2, 3, value_dim=4, output_shape=5, use_bias=False),
        k.MultiHeadAttention(3, 2, output_shape=(2, 3), dropout=0.1),
        k.MultiHeadAttention(2, 3, use_gate=True, sliding_window=2),
        k.GroupQueryAttention(4, 6, 2),
        k.GroupQueryAttention(4, 3, 3, use_bias=False, use_gate=True),
        k.GroupQueryAttention(4, 4, 1, dropout=0.1, sliding_window=3),
    ):
        outputs += keras.tree.flatten(layer(q, v, **call))
        if not call:
            outputs.append(layer(q, v, key))
    return keras.Model([q, v, key], outputs)


def _scores_of_heads() -> Any:
    import keras

    k = keras.layers
    q = keras.Input((5, 6), name="q")
    outputs = []
    for layer in (k.MultiHeadAttention(2, 3), k.GroupQueryAttention(4, 4, 2)):
        outputs += layer(q, q, return_attention_scores=True)
    return keras.Model(q, outputs)


def _attention_masks() -> Any:
    import keras

    k = keras.layers
    q = keras.Input((5, 6), name="q")
    whole = keras.Input((5, 5), dtype="bool", name="whole")
    outputs = []
    for layer in (k.MultiHeadAttention(2, 3), k.MultiHeadAttention(2, 3, dropout=0.1)):
        outputs += [layer(q, q, attention_mask=whole), layer(q, q, attention_mask=whole, use_causal_mask=True)]
    outputs.append(k.GroupQueryAttention(3, 2, 1)(q, q, attention_mask=whole))
    return keras.Model([q, whole], outputs)


def _axes() -> Any:
    """Attention over axes of images and of series of images."""
    import keras

    k = keras.layers
    x, y = keras.Input((4, 3, 6), name="x"), keras.Input((2, 3, 2, 6), name="y")
    outputs = [k.MultiHeadAttention(2, 3, attention_axes=axes)(x, x) for axes in (1, 2, (1, 2), (-2,), None)]
    outputs.append(k.MultiHeadAttention(2, 3, attention_axes=(2, 3), value_dim=2)(y, y))
    outputs += k.MultiHeadAttention(2, 3, attention_axes=(3, 1), output_shape=(2, 2))(
        y, y, return_attention_scores=True
    )
    mask = keras.Input((4, 3, 4, 3), dtype="bool", name="mask")
    outputs.append(k.MultiHeadAttention(2, 3, attention_axes=(1, 2))(x, x, attention_mask=mask))
    tall = keras.Input((None, None, 6), name="tall")
    outputs.append(k.MultiHeadAttention(2, 3, attention_axes=(1, 2))(tall, tall))
    outputs.append(k.MultiHeadAttention(2, 3, attention_axes=1)(tall, tall))
    return keras.Model([x, y, mask, tall], outputs)


PLAIN: dict[str, Callable[[], Any]] = {
    "dot": _dot,
    "heads": _heads,
    "causal heads": lambda: _heads(use_causal_mask=True),
    "scores of heads": _scores_of_heads,
    "axes": _axes,
    "attention masks": _attention_masks,
}


@pytest.mark.parametrize("name", PLAIN)
def test_attention(name: str, tmp_path: Path) -> None:
    """Every layer with every option, at two batch sizes."""
    agree(PLAIN[name](), tmp_path)


def _feeds() -> Mapping[int, Mapping[str, Any]]:
    rng = np.random.default_rng(3)
    feeds: dict[int, dict[str, Any]] = {}
    for n, (q_kept, v_kept) in KEPT.items():
        sides = {"q": 5, "v": 7, "k": 7}
        arrays = {name: rng.normal(size=(n, side, 6)).astype("float32") for name, side in sides.items()}
        feeds[n] = {**arrays, "q_kept": q_kept, "v_kept": v_kept}
    return feeds


def test_masks(tmp_path: Path) -> None:
    """Masks that are arguments of the call."""
    agree(_masked_dot(), tmp_path, inputs=_feeds())


def _masked_heads() -> Any:
    import keras

    k = keras.layers
    q, v, key = _queries()
    kept = keras.Input((None,), dtype="bool", name="v_kept")
    outputs = []
    for layer in (
        k.MultiHeadAttention(2, 3),
        k.MultiHeadAttention(2, 3, dropout=0.1),
        k.GroupQueryAttention(3, 2, 1),
    ):
        outputs += [layer(q, v, key, value_mask=kept), layer(q, v, value_mask=kept, use_causal_mask=True)]
    return keras.Model([q, v, key, kept], outputs)


def test_masks_of_heads(tmp_path: Path) -> None:
    """Masks of values, also where they leave no key to attend to."""
    feeds = {n: {key: value for key, value in arrays.items() if key != "q_kept"} for n, arrays in _feeds().items()}
    agree(_masked_heads(), tmp_path, inputs=feeds)


def _words() -> Any:
    """The masks of embeddings go into attention, behind it, and (as in Keras) away from its inputs."""
    import keras

    k = keras.layers
    words = keras.Input((None,), dtype="int32", name="words")
    x = k.Embedding(9, 6, mask_zero=True)(words)
    y = k.MultiHeadAttention(2, 3)(x, x)
    z = k.LayerNormalization()(k.Add()([x, y]))
    found = k.Attention()([k.Dense(4)(z), k.Dense(4)(y)])
    grouped = k.GroupQueryAttention(3, 2, 1)(y, y)
    return keras.Model(words, [y, z, found, grouped, k.LSTM(3)(x), k.LSTM(3)(y), k.LSTM(3)(found), k.GRU(3)(grouped)])


@pytest.mark.filterwarnings("ignore:.*does not support masking")  # Keras' own projections inside GroupQueryAttention
def test_masks_of_words(tmp_path: Path) -> None:
    """The same with the masks that values carry."""
    rng = np.random.default_rng(3)
    kept = {n: masks[1] for n, masks in KEPT.items()}
    agree(
        _words(),
        tmp_path,
        inputs={n: {"words": rng.integers(1, 9, m.shape).astype("int32") * m} for n, m in kept.items()},
    )


def test_half_precision(tmp_path: Path) -> None:
    """Scores are softmaxed in float32 where Keras does it."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = _heads(use_causal_mask=True)
    finally:
        keras.config.set_dtype_policy(before)
    agree(model, tmp_path, tolerance=1e-2)


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")
def test_masks_end_where_keras_ends_them(tmp_path: Path) -> None:
    """What follows a layer that does not support masking sees none."""
    ids = keras.Input((6,), dtype="int32")
    series = L.Embedding(5, 4, mask_zero=True)(ids)
    ends = [L.Conv1D(3, 2), L.DepthwiseConv1D(2), L.SeparableConv1D(3, 2), L.Conv1DTranspose(3, 2), L.MaxPooling1D(2)]
    ends += [L.AveragePooling1D(2), L.AdaptiveMaxPooling1D(2), L.EinsumDense("abc,cd->abd", (None, 3))]
    ends += [L.RMSNormalization(), L.SpectralNormalization(L.Dense(3))]
    goes_on = [L.BatchNormalization(), L.LayerNormalization(), L.Dense(3), L.PReLU(), L.UnitNormalization()]
    outputs = [L.GlobalAveragePooling1D()(layer(series)) for layer in (*ends, *goes_on)]
    model = keras.Model(ids, outputs)
    agree(model, tmp_path, inputs=padded(model))


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")
def test_masks_that_attention_takes_away_are_gone_for_what_runs_later(tmp_path: Path) -> None:
    """Several layers on one series, in the order in which Keras runs them: MultiHeadAttention takes the mask from its inputs."""
    ids, rows = keras.Input((6,), dtype="int32"), keras.Input((6, 4))
    series = L.Embedding(5, 4, mask_zero=True)(ids)
    inner = keras.Model(rows, L.MultiHeadAttention(1, 2)(rows, rows))
    other = L.Embedding(5, 4, mask_zero=True)(ids)
    outputs = [L.MultiHeadAttention(2, 3)(series, series), L.MultiHeadAttention(2, 3)(series, series), L.GRU(3)(series)]
    outputs += [L.GRU(3)(other), inner(other), L.GlobalAveragePooling1D()(L.Add()([outputs[0], series]))]
    model = keras.Model(ids, outputs)
    agree(model, tmp_path, inputs=padded(model))


def padded(model: Any) -> dict[int, dict[str, Any]]:
    """Token ids that end in zeros, for a batch of 1 and one of 3."""
    rows = np.asarray([[1, 2, 0, 0, 0, 0], [3, 1, 4, 2, 0, 0], [2, 2, 1, 3, 4, 0]], "int32")
    return {count: {model.inputs[0].name: rows[:count]} for count in (1, 3)}
