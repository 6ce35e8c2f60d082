"""What frameworks have in common: versions without imports, NumPy's types, and questions that a model does not answer."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import numpy as np

from bnexport.errors import InputError
from bnexport.results.runs import Mode


def installed_version(package: str) -> str:
    """The version of a package; "" where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def is_floating(dtype: np.dtype[np.generic]) -> bool:
    """Whether a type is one of floating-point numbers, bfloat16 included, which NumPy itself does not have."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def refuse_unknown(mode: Mode, modes: tuple[Mode, ...], dtype: str, dtypes: tuple[str, ...]) -> None:
    """Makes sure that a model has a mode, and computes in a dtype.

    Raises:
        InputError: it does not.
    """
    if mode not in modes:
        raise InputError(f"the model has no mode {mode}", expected=" or ".join(modes))
    if dtype not in dtypes:
        raise InputError(f"the model cannot compute in {dtype}", expected=" or ".join(dtypes))
