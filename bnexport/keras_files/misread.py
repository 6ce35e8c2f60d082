"""What Keras 3 reads otherwise from HDF5 files than it stands there, without an error (no framework)."""

from __future__ import annotations

from collections.abc import Iterator

from bnexport.keras_files.defaults import Config, entries_in


def keep_axes(layers: list[object]) -> Iterator[str]:
    """Names the modules of layers whose axes Keras 3 would replace by the default ones, so that it keeps them.

    Where no module is named, as in HDF5 files, it reads single numbers only (`model_from_config` in keras/src/legacy/saving/saving_utils.py).

    Args:
        layers: the entries of the layers of a model; changed in place.

    Yields:
        What was kept, in words.
    """
    for entry in layers:
        config = entry.get("config") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(config, dict) or "module" in entry or "axis" not in config:
            continue
        axis, kind = config["axis"], entry.get("class_name")
        if (isinstance(axis, list) and len(axis) != 1) or (axis is None and kind == "Normalization"):
            entry |= {"module": "keras.layers", "registered_name": None}
            yield f"{kind} kept its axis, {axis}, in whose place Keras 3 takes the default one"


def inner_statistics(config: Config) -> int:
    """How many Normalization layers are inside of the layers of a model and have statistics in the file.

    Keras 3 reads these from HDF5 files, but computes with a mean of 0 and a variance of 1: it calls `finalize_state` for the layers of the
    outermost model only (`load_weights_from_hdf5_group` in keras/src/legacy/saving/legacy_h5_format.py).

    Args:
        config: the configuration of the model.
    """
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else None
    parts = [part for entry in layers or [] if isinstance(entry, dict) for part in [entry.get("config")]]
    return sum(_is_adapted(entry) for part in parts for entry in entries_in(part))


def _is_adapted(entry: Config) -> bool:
    """Whether an entry is a Normalization layer whose statistics are weights, and not in its configuration."""
    config = entry.get("config")
    stated = not isinstance(config, dict) or config.get("mean") is not None or config.get("variance") is not None
    return entry.get("class_name") == "Normalization" and not stated
