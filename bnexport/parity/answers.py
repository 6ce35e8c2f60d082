"""What the rows of an output say about the images of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def broken_rows(x: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Which of `count` images have a value that is not finite; all of them where the tensor has no axis for images."""
    if x.dtype.kind not in "fc" or np.isfinite(x).all():
        return np.zeros(count, np.bool_)
    if x.ndim == 0 or len(x) != count:
        return np.ones(count, np.bool_)
    return np.asarray(~np.isfinite(x).reshape(count, -1).all(axis=1))


def confidence(probabilities: NDArray[Any], found: NDArray[np.int64]) -> NDArray[Any]:
    """The probability of each image's class, from probabilities of shape (N, K) and the classes of shape (N,)."""
    if probabilities.shape[1] > 1:
        return np.take_along_axis(probabilities, np.maximum(found, 0)[:, None], axis=1)[:, 0]
    return np.where(found == 1, probabilities[:, 0], 1 - probabilities[:, 0])
