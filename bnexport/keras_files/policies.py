"""The dtypes of layers, as configurations name them."""

from __future__ import annotations

from collections.abc import Mapping

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


def quantisation_mode(config: Mapping[str, object]) -> str | None:
    """How the weights of the layer of a configuration are quantised ("int8", "int4/128", "float8"); None where they are not.

    >>> quantisation_mode({"dtype": "int8_from_float32"}), quantisation_mode({"dtype": "mixed_float16"})
    ('int8', None)
    """
    policy = config.get("dtype")
    if isinstance(policy, str):
        mode, separator, _ = policy.partition("_from_")
        return mode if separator else None
    inner = policy.get("config") if isinstance(policy, dict) else None
    return str(inner["mode"]) if isinstance(inner, dict) and "mode" in inner else None
