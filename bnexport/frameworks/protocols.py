"""What a framework is: the protocols that a plug-in implements, which `bnexport.frameworks.registry` finds.

A framework reads model files and computes what is taken as right. A plug-in is a class with `about`, `recognises` and `load`,
and one line in its package's metadata:

    [project.entry-points."bnexport.frameworks"]
    my-framework = "my_package.module:MyFramework"

`bnexport check model.mine --deployed model.onnx --arrays data.npz` then holds the deployed file against it, and
`tests/e2e/test_frameworks.py` holds every framework that is installed to the same contract.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from bnexport.results.runs import Mode
from bnexport.results.signature import Port as Port, Signature as Signature, Tensors as Tensors
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

Outputs = dict[str, Array]
"""Arrays by the name of the output; `OUTPUT/logits` holds what goes into an output's softmax or sigmoid."""


@dataclass(frozen=True, slots=True)
class About:
    """What a framework is on this machine; looking it up imports nothing large.

    Args:
        version: of the library; "" where it is not installed.
        title: what sentences call it; "" for its name.
        runs_as: what the ids of its runs begin with; "" for its name.
        device: what it computes with.
        signatures: whether a file may hold several functions, of which one is chosen.
        architectures: whether a file may have weights only, to which an architecture is named.
        weights: whether weights in a file of their own may be loaded into its models.
        executable: whether a runtime executes its files as they are, so that nothing is exported or held against them; its
            models are `Graph`s.
        kept: whether what it computes may be kept in the cache, by its version: not where its code changes and its version does not.
    """

    version: str
    title: str = ""
    runs_as: str = ""
    device: str = "cpu"
    signatures: bool = False
    architectures: bool = False
    weights: bool = False
    executable: bool = False
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Want:
    """How a model is to be loaded.

    Args:
        trust: run code that the file brings; otherwise a file that brings any is refused.
        signature: which of its functions is meant; "" for the usual one.
        architecture: of a file that has weights only: a JSON file, or the name of a network; "" for what lies beside it.
        weights: a file of weights that are loaded into the model; None for those it has.
        deployed: the ONNX file that was exported of the model, by which a model that does not say what it takes is called.
        data: what a model is run on that does not say what it takes, and of which there is no ONNX file.
    """

    trust: bool = False
    signature: str = ""
    architecture: str = ""
    weights: Path | None = None
    deployed: Path | None = None
    data: tuple[Port, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known about a model besides what it takes and gives.

    Args:
        parameters: the number of weights.
        layers: the number of BatchNormalization layers.
        frozen: how many of them are frozen.
        dtype: the widest rounding of a layer's computation: "float16", "bfloat16", "float32" or "float64".
        iterations: how many updates the optimizer in the file has made; None where the file has none.
        repairs: what had to be changed before the file could be read.
        random_layers: those that compute something else at each call in training mode.
        versions: of what made and runs it.
        sha256: of the content that was read; "" where that is not known.
        complete: whether the file holds all that its outputs depend on, and no file beside it does.
        notes: what is unusual in the file, one sentence each.
        stated: what the file says about images and classes, as a sidecar does ("preprocessing", "classes", "labels", "outputs").
    """

    parameters: int = 0
    layers: int = 0
    frozen: int = 0
    dtype: str = "float32"
    iterations: int | None = None
    repairs: tuple[str, ...] = ()
    random_layers: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    sha256: str = ""
    complete: bool = True
    notes: tuple[str, ...] = ()
    stated: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FileDescription:
    """What a model file says about its model.

    Args:
        info: what is known about it.
        inputs: what it takes, in order.
        outputs: the names of what it gives, in order.
        modes: which passes it has.
    """

    info: ModelInfo
    inputs: tuple[Port, ...]
    outputs: tuple[str, ...]
    modes: tuple[Mode, ...]


@runtime_checkable
class ReferenceModel(Protocol):
    """A model that is loaded. Models do not know of each other."""

    info: ModelInfo
    signature: Signature
    modes: tuple[Mode, ...]

    def forward(self, x: Tensors, *, mode: Mode, dtype: str = "float32", seed: int | None = None) -> Outputs:
        """Every output for one batch; the model is not changed.

        Args:
            x: every input by name, shape (N, ...).
            mode: one of `modes`. Training mode normalises by the batch, with dropout and other random layers off.
            dtype: "float32", or "float64" for the same weights computed in float64 throughout.
            seed: turns random layers on, started from it.

        Raises:
            InputError: the batch does not fit, there is no such mode, or the model does not compute in `dtype`.
            MachineError: the memory is not enough.
        """
        ...


@runtime_checkable
class Framework(Protocol):
    """What reads model files, and computes what is taken as right."""

    def about(self) -> About:
        """What it is on this machine; never raises."""
        ...

    def recognises(self, source: object) -> str:
        """The format of a file or folder (a `Path`, by its content) or of a model in memory; "" where it is none of its own. Never raises."""
        ...

    def load(self, source: Path, want: Want) -> ReferenceModel:
        """The model in a file.

        Raises:
            InputError: it cannot be read, or brings code and is not trusted.
            MachineError: the library is not installed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Layer:
    """One call of a layer.

    Args:
        name: the layer's path; from its second call on with "#2", "#3" and so on behind it.
        kind: its class.
        shape: of its output, None for an open axis.
        inputs: the layers whose outputs it reads.
    """

    name: str
    kind: str
    shape: tuple[int | None, ...]
    inputs: tuple[str, ...]


@runtime_checkable
class ShowsLayers(Protocol):
    """The ability of a model to show what its layers compute."""

    def layers(
        self, x: Tensors, *, mode: Mode, dtype: str = "float32", most_bytes: int = 512 << 20
    ) -> Iterator[tuple[Layer, Array]]:
        """Each layer in order with its output; at most `most_bytes` are computed at a time. The errors are those of `forward`."""
        ...


@runtime_checkable
class SavesWeights(Protocol):
    """The ability of a model to be written with other weights."""

    def save_with(self, values: Mapping[str, Array], path: Path) -> None:
        """Writes the model with new values in the weights named in `values`.

        Raises:
            InputError: it cannot be written in the format of `path`.
        """
        ...


@runtime_checkable
class ShowsWeights(Protocol):
    """The ability of a model to show its weights."""

    def weights(self) -> Mapping[str, Array]:
        """Every weight, by its name."""
        ...


@runtime_checkable
class ReadsBeside(Protocol):
    """The ability of a framework to read more than the model's own file."""

    def digest_beside(self, source: Path, want: Want) -> str:
        """A hash of what else decides what the model computes; "" where nothing does.

        Raises:
            InputError: it cannot be read.
        """
        ...


@runtime_checkable
class RewritesFiles(Protocol):
    """The ability of a framework to write a model file with other weights without loading it."""

    def rewrite(self, source: Path, want: Want, values: Mapping[str, Array], target: Path) -> bool:
        """Writes a copy of `source` in which only the weights named in `values` are others; False where `target` is of another format.

        Raises:
            InputError: the file has no such weight.
        """
        ...


@runtime_checkable
class Graph(Protocol):
    """The ability of a model to be executed by runtimes as it is: it is an ONNX graph."""

    graph: onnx.ModelProto

    def open(self) -> None:
        """Makes ready for `forward`, once the graph is as it shall be.

        Raises:
            InputError: the graph cannot be run.
        """
        ...


@runtime_checkable
class DescribesFiles(Protocol):
    """The ability of a framework to say what a model is without loading it."""

    def describe(self, source: Path, want: Want) -> FileDescription | None:
        """What the model in a file is, as `load` would give it; None where only loading it shows that.

        Raises:
            InputError: it cannot be read.
        """
        ...


@runtime_checkable
class WritesModels(Protocol):
    """The ability of a framework to write a model in memory to a file, which is then checked."""

    suffix: str

    def write(self, model: Any, path: Path) -> None:
        """Writes it to `path`, whose suffix is `suffix`."""
        ...


@runtime_checkable
class UsesModels(Protocol):
    """The ability of a framework to compute with a model in memory, without a file."""

    def load_model(self, model: object, want: Want) -> ReferenceModel:
        """The model; what the caller holds is not changed. The errors are those of `load`."""
        ...
