"""The architecture of a Keras file that has weights only: from a JSON file, and suggested by the shapes of the weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from bnexport.errors import InputError
from bnexport.keras_files import container
from bnexport.keras_files.contents import Contents, Dataset
from bnexport.keras_files.defaults import Config
from bnexport.keras_files.layers import StoredLayer, Structure, UnclearFile, is_foreign
from bnexport.keras_files.naming import public_names
from bnexport.keras_files.shapes import refuse_misshapen
from bnexport.keras_files.tree import structure_of_layer
from bnexport.system.files import Format, model_format, read_bounded

BESIDE = ("model.json", "config.json")
"""What the architecture is called where it lies beside the weights."""

MODELS = ("Functional", "Model", "Sequential")
_MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Architecture:
    """An architecture.

    Args:
        config: the configuration of the model, as `model.to_json()` writes it.
        origin: where it comes from, as part of a sentence ("of model.json").
    """

    config: Config
    origin: str

    @property
    def version(self) -> str | None:
        """The version of the Keras that wrote it; None where it does not say."""
        version = self.config.get("keras_version")
        return version if isinstance(version, str) else None

    @property
    def sha256(self) -> str:
        """A hash of the configuration."""
        return hashlib.sha256(json.dumps(self.config).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Net:
    """A network of keras.applications.

    Args:
        name: its name there.
        size: the height and width of its images where nothing else is asked for.
    """

    name: str
    size: int


def is_missing(path: Path) -> bool:
    """Whether a Keras file has weights but no architecture; False where h5py is missing, which whoever reads the file says.

    Raises:
        InputError: it is damaged.
    """
    if (
        model_format(path) != Format.HDF5
        or find_spec("h5py") is None
        or container.config_text(path, Format.HDF5) is not None
    ):
        return False
    return container.holds_weights(path)


def read(path: Path) -> Architecture:
    """The architecture in a JSON file that `model.to_json()` wrote, or in the config.json of a .keras file.

    Raises:
        InputError: there is no such file, or it is something else.
    """
    expected = "a file that model.to_json() wrote"
    try:
        config = json.loads(read_bounded(path, _MOST_BYTES))
    except OSError as error:
        raise InputError(f"cannot read the architecture {path} ({error.strerror})", expected=expected) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"the architecture {path} is not JSON ({error})", expected=expected) from error
    if isinstance(config, str):  # json.dumps(model.to_json())
        try:
            config = json.loads(config)
        except (ValueError, RecursionError):
            config = None
    if not _is_model(config):
        raise InputError(f"{path} is not the architecture of a Keras model", expected=expected)
    return Architecture(config, f"of {path.name}")


def _is_model(config: object) -> bool:
    return (
        isinstance(config, dict)
        and config.get("class_name") in MODELS
        and isinstance(config.get("config"), dict | list)  # a list of layers: Sequential in Keras 1
    )


def beside(path: Path) -> Architecture | None:
    """The architecture that lies beside a file with weights, in model.json or config.json; None where there is none.

    A JSON file of that name that is something else is passed over.
    """
    for name in BESIDE:
        neighbour = path.with_name(name)
        if neighbour.is_file():
            try:
                return read(neighbour)
            except InputError:
                continue
    return None


def fingerprint(shapes: Iterable[tuple[int, ...]]) -> str:
    """What the weights of a network are recognised by, whatever its classes and the channels of its images are.

    That is the shapes of its convolutions, without those that see the images and those whose results only the classes are
    made of; and how many weights there are with more than one axis, and with one.
    """
    arrays = [shape for shape in shapes if shape]
    kernels = [shape for shape in arrays if len(shape) == 4]
    read = {shape[2] for shape in kernels} | {shape[0] for shape in arrays if len(shape) == 2}
    inner = sorted(shape for shape in kernels if shape[2] > 4 and (shape[3] == 1 or shape[3] in read))
    vectors = sum(len(shape) == 1 for shape in arrays)
    text = json.dumps([inner, len(arrays) - vectors, vectors])
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def nets_like(contents: Contents) -> list[Net]:
    """The networks of keras.applications whose weights have these shapes; mostly one, or none."""
    return _nets().get(fingerprint(shapes_of(contents)), [])


def shapes_of(contents: Contents) -> list[tuple[int, ...]]:
    """The shapes of the model's weights in a file."""
    return [dataset.shape for dataset in _weights(contents)]


def _weights(contents: Contents) -> list[Dataset]:
    """The model's: neither the optimizer's, nor the states of random generators."""
    return [d for d in contents.datasets.values() if "float" in d.dtype and not d.name.startswith("optimizer")]


@cache
def _nets() -> dict[str, list[Net]]:
    table = json.loads(Path(__file__).with_name("nets.json").read_text(encoding="utf-8"))
    nets: dict[str, list[Net]] = {}
    for name, entry in table.items():
        for mark in entry["fingerprints"]:
            nets.setdefault(mark, []).append(Net(name, entry["size"]))
    return nets


def net_named(name: str) -> Net | None:
    """The network of keras.applications of a name; None where there is none."""
    return next((net for nets in _nets().values() for net in nets if net.name == name), None)


def net_names() -> list[str]:
    """The names of all of them."""
    return sorted({net.name for nets in _nets().values() for net in nets})


def refuse_misfits(model: StoredLayer, contents: Contents) -> None:
    """Makes sure that each weight in a file belongs to a layer, has the size that the layer asks for, and that no layer lacks one.

    Args:
        model: the model, with its weights.
        contents: what is in the file.

    Raises:
        UnclearFile: they do not fit.
    """
    refuse_misshapen(model)
    used: set[str] = set()
    for layer in model.walk():
        used |= {weight.dataset for weight in layer.weights.values()}
        structure = structure_of_layer(layer)
        if structure is None and layer.weights and not is_foreign(layer.module) and layer.kind in public_names():
            structure = Structure()
        if structure is not None and layer.weights.keys() != {*structure.trainable, *structure.fixed}:
            raise UnclearFile(f"the layer {layer.path} has other weights in the file", found=", ".join(layer.weights))
    rest = [dataset.name for dataset in _weights(contents) if dataset.name not in used]
    if rest:
        raise UnclearFile("the file has weights of other layers, too", found=", ".join(rest[:3]))
