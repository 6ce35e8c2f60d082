"""TensorFlow's resize kernels without TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bnexport.numerics.resize import tf_bilinear, tf_nearest

SIDES = st.integers(1, 80)


@pytest.mark.keras
@settings(deadline=None, max_examples=200)
@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([1, 3, 4]), st.integers(0, 2**32 - 1))
def test_equal_to_tf_image_resize(height: int, width: int, rows: int, columns: int, channels: int, seed: int) -> None:
    """Bit for bit, for any sizes, up and down."""
    from bnexport.frameworks.keras.model import load_framework

    load_framework()
    import tensorflow as tf

    x = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    for ours, method in ((tf_bilinear, "bilinear"), (tf_nearest, "nearest")):
        theirs = tf.image.resize(x, (rows, columns), method).numpy()
        found = ours(x, rows, columns)
        np.testing.assert_array_equal(found, theirs)
        assert found.dtype == theirs.dtype
