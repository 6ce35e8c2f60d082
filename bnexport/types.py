"""Types that many packages share."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.generic]
"""An array of any dtype. Arithmetic needs a dtype: `np.asarray(array, np.float64)`."""
