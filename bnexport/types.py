"""Types that many packages share."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.generic]
"""An array of any dtype. Arithmetic needs a dtype: `np.asarray(array, np.float64)`."""

Nested: TypeAlias = Any
"""Lists, tuples and dictionaries inside each other, with tensors and plain values, as the arguments and results of Keras' layers are."""
