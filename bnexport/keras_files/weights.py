"""Copies of Keras files with another configuration, and with their weights under the names that Keras 3 looks for (h5py)."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from bnexport.keras_files.container import CONFIG, WEIGHTS
from bnexport.system.files import Format

_DEPENDENCIES = "_layer_checkpoint_dependencies"


def old_layout(names: Collection[str]) -> tuple[str, ...]:
    """What `write_with` changes in the names of the weights in a .keras file: Keras 2.13 and 2.14 named them otherwise, and Keras 2 on Windows wrote backslashes."""
    notes = {
        "weights written on Windows renamed": "\\",
        "weights of Keras 2.13 and 2.14 renamed": _DEPENDENCIES,
    }
    return tuple(note for note, mark in notes.items() if any(mark in name for name in names))


def current_layout(content: bytes) -> bytes:
    """The weights of a .keras file under the names that Keras 3 looks for."""
    import h5py

    target = io.BytesIO()
    with h5py.File(io.BytesIO(content)) as old, h5py.File(target, "w") as new:
        nodes: dict[str, Any] = {}
        old.visititems(lambda name, node: nodes.__setitem__(name.replace("\\", "/"), node))
        children: dict[str, set[str]] = {}
        for name in nodes:
            parts = name.split("/")
            for at, part in enumerate(parts[:-1]):
                if part == _DEPENDENCIES:
                    children.setdefault("/".join(parts[: at + 1]), set()).add(parts[at + 1])
        # A layer with weights is listed twice there, and takes a number each time.
        names = {owner: _renumber(inside) for owner, inside in children.items()}
        for name, node in nodes.items():
            parts = name.split("/")
            renamed = [
                "layers" if part == _DEPENDENCIES else names.get("/".join(parts[:at]), {}).get(part, part)
                for at, part in enumerate(parts)
            ]
            if isinstance(node, h5py.Dataset):
                new["/".join(renamed)] = node[()]
            else:
                new.require_group("/".join(renamed))
    return target.getvalue()


def _renumber(names: set[str]) -> dict[str, str]:
    """dense, dense_2, dense_4 as dense, dense_1, dense_2."""
    kinds: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        match = re.fullmatch(r"(.+?)(?:_(\d+))?", name, re.DOTALL)
        if match:
            kinds.setdefault(match[1], []).append((int(match[2] or 0), name))
    return {
        name: kind if nth == 0 else f"{kind}_{nth}"
        for kind, group in kinds.items()
        for nth, (_, name) in enumerate(sorted(group))
    }


def is_by_layer(path: Path) -> bool:
    """Whether a HDF5 file has its weights by the names of the layers (Keras 1 and 2), not by their classes (`.weights.h5`)."""
    import h5py

    with h5py.File(path, "r") as file:
        return any(name.startswith("layer_names") for name in file.attrs)


def write_complete(path: Path, config: object, target: Path) -> None:
    """A model file out of a file that has weights only.

    Args:
        path: the file.
        config: the configuration of the model.
        target: .h5 where the weights are by layer (`is_by_layer`), otherwise .keras.
    """
    import h5py

    if is_by_layer(path):
        shutil.copyfile(path, target)
        with h5py.File(target, "r+") as file:
            group = file.create_group("model_weights")
            for name in [name for name in file if name != "model_weights"]:
                file.move(name, f"model_weights/{name}")
            for name, value in file.attrs.items():
                group.attrs[name] = value
            file.attrs["model_config"] = json.dumps(config)
        return
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.0.0"}))
        archive.writestr(CONFIG, json.dumps(config))
        archive.write(path, WEIGHTS)


def write_with(
    path: Path,
    kind: Format,
    config: object,
    target: Path,
    *,
    renamed: bool = False,
    keras_version: str | None = None,
) -> None:
    """A copy of a model file with another configuration, and the weights under the names of Keras 3.

    Args:
        path: the file.
        kind: what it is.
        config: the configuration.
        target: the copy.
        renamed: whether the weights in an archive have names of an older Keras (`old_layout`).
        keras_version: the version that it says wrote it; None for the one that it says already.
    """
    import h5py

    if kind == Format.HDF5:
        if path != target:
            shutil.copyfile(path, target)
        with h5py.File(target, "r+") as file:
            file.attrs["model_config"] = json.dumps(config)
            if keras_version is not None:
                file.attrs["keras_version"] = keras_version
        return
    with zipfile.ZipFile(path) as old:
        parts = [(item, old.read(item)) for item in old.infolist()]
    with zipfile.ZipFile(target, "w") as new:
        for item, content in parts:
            if item.filename == CONFIG:
                written = json.dumps(config).encode()
            elif item.filename == WEIGHTS and renamed:
                written = current_layout(content)
            elif item.filename == "metadata.json" and keras_version is not None:
                written = json.dumps(json.loads(content) | {"keras_version": keras_version}).encode()
            else:
                written = content
            new.writestr(item, written)
