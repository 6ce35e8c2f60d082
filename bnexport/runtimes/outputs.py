"""What runtimes return, as arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bnexport.errors import InputError
from bnexport.types import Array, Nested


def as_array(name: str, value: Nested) -> Array:
    """An output of a runtime as an array: text as strings of NumPy, scores by class (ZipMap) as one column for each class.

    Raises:
        InputError: it is a sequence of something else, or there is nothing in it.

    >>> as_array("scores", [{"cat": 0.25, "dog": 0.75}, {"cat": 1.0, "dog": 0.0}]).tolist()
    [[0.25, 0.75], [1.0, 0.0]]
    """
    if isinstance(value, list):
        rows = [list(row.values()) for row in value if isinstance(row, Mapping)]
        if not rows or len(rows) != len(value) or any(row.keys() != value[0].keys() for row in value):
            kind = f"a sequence of {type(value[0]).__name__}" if value else "an empty sequence"
            raise InputError(
                f"the output {name} cannot be compared", found=kind, expected="a tensor, or the scores of each class"
            )
        return np.asarray(rows)
    array = np.asarray(value)
    return array.astype(np.str_) if array.dtype.kind == "O" and value is not None else array
