"""The dtypes of layers, as configurations name them."""

from __future__ import annotations

from bnexport.errors import InputError


def policy_name(dtype: object) -> str:
    """The name of a dtype policy: a configuration has a name, or an object with one.

    Raises:
        InputError: it has neither.
    """
    if dtype is None:
        return "float32"
    if isinstance(dtype, str):
        return dtype
    config = dtype.get("config") if isinstance(dtype, dict) else None
    if isinstance(config, dict):
        for key in ("source_name", "name", "default_policy"):
            if config.get(key) is not None:
                return policy_name(config[key])
    raise InputError("the dtype policy of a layer is not one that Keras writes", found=repr(dtype)[:80])


def compute_dtype(dtype: object) -> str:
    """The dtype that a layer with this policy computes in."""
    return policy_name(dtype).removeprefix("mixed_").partition("_from_")[0]


DTYPES = {
    *("bool", "string", "bfloat16", "float16", "float32", "float64", "complex64", "complex128"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}
"""What tensors of Keras hold."""


def input_dtype(dtype: object, name: str) -> str:
    """The dtype of an input.

    Raises:
        InputError: Keras has none of that name.
    """
    given = compute_dtype(dtype)
    if given not in DTYPES:
        raise InputError(f"the input {name} has a dtype that Keras does not have", found=repr(given)[:40])
    return given
