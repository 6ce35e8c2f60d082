"""Arrays as the inputs of a model take them."""

from __future__ import annotations

import numpy as np

from bnexport.errors import InputError
from bnexport.types import Array


def cast_input(name: str, value: Array, kind: type[np.generic] | None) -> Array:
    """The values as an input takes them; floats that an integer input takes are rounded.

    Raises:
        InputError: the input cannot hold them.
    """
    if kind is None or value.dtype == kind:
        return np.asarray(value, order="C")  # ascontiguousarray would give a scalar an axis
    if kind in (np.str_, np.object_):
        if value.dtype.kind != "U":
            raise InputError(f"the input {name} has another type", found=str(value.dtype), expected="text")
        return np.asarray(value, order="C")
    if value.dtype.kind not in "fiub":
        raise InputError(f"the input {name} has another type", found=str(value.dtype), expected=str(np.dtype(kind)))
    if np.issubdtype(kind, np.integer):
        limits = np.iinfo(np.dtype(kind))
        if value.dtype.kind == "f":
            value = np.rint(value)
        if value.size and not (value.min() >= limits.min and value.max() <= limits.max):
            raise InputError(
                f"the values of the input {name} do not fit into {np.dtype(kind)}",
                expected=f"{limits.min} to {limits.max}",
                found=f"values from {value.min():g} to {value.max():g}",
            )
    return np.asarray(value, kind, order="C")
