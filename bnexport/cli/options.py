"""The arguments and options that several commands share and no function of the library has."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bnexport.errors import UsageError
from bnexport.results.options import CLUSTER, DATA, MODEL, OUTPUT, TARGETS, Flag, option
from bnexport.results.target_names import parse_providers

if TYPE_CHECKING:
    from bnexport.system.cache import Cache

MODEL_HELP = "The model: a Keras file (.h5, .hdf5 or .keras), an ONNX file (.onnx) or the folder of a SavedModel."

Images = Annotated[
    str | None,
    typer.Argument(
        metavar="IMAGES",
        help="The images: a folder (flat, with one subfolder per class, or with a labels.csv), one image, a manifest "
        "(.csv, .tsv or .parquet) or tar shards (.tar), as a path or a URL; or a folder of arrays or recordings "
        "(see --arrays). Use - to read a list of paths and URLs from standard input.",
    ),
]
IMPORT = Flag(
    name="import",
    kind=list[str],
    metavar="MODULE",
    panel=MODEL,
    help="Import this Python module, which registers custom classes with Keras. Needs --allow-custom-code. Repeatable.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Modules:
    """Modules that are imported before a model is loaded."""

    imports: Sequence[str] = option(IMPORT)

    def load(self, *, trust: bool) -> None:
        """Imports them.

        Raises:
            UsageError: there is no --allow-custom-code, or a module cannot be imported.
            MachineError: TensorFlow is not installed.
        """
        if self.imports:
            from bnexport.frameworks.keras.custom_modules import import_modules

            import_modules(self.imports, trust=trust)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading(Modules):
    """How images and results of earlier checks are read."""

    null: bool = option(
        Flag(
            name="null",
            short="0",
            kind=bool,
            default=False,
            panel=DATA,
            help="The list on standard input is separated by null bytes, as written by find -print0.",
        )
    )
    no_cache: bool = option(
        Flag(
            name="no-cache",
            kind=bool,
            default=False,
            panel=OUTPUT,
            help="Compute everything again, and store nothing in the cache.",
        )
    )

    def images(self, named: str | None) -> str | list[str] | None:
        """The images as they were named; the list on standard input for "-".

        Raises:
            UsageError: null bytes were announced, and nothing is read from standard input.
        """
        if named != "-":
            if self.null:
                raise UsageError("--null says how standard input is read", fix="name the images as -")
            return named
        content = os.fsdecode(sys.stdin.buffer.read())
        return [line for line in (content.split("\0") if self.null else content.splitlines()) if line.strip()]

    def cache(self) -> Cache:
        """What was computed before; nothing where modules are imported, which may change what a model computes."""
        return open_cache(no_cache=self.no_cache or bool(self.imports))


def open_cache(*, no_cache: bool = False) -> Cache:
    """What was computed before."""
    from bnexport.system.cache import NOTHING_KEPT, Cache, folder

    return NOTHING_KEPT if no_cache else Cache(folder())


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxruntimeTargets:
    """Where onnxruntime runs."""

    providers: Sequence[str] = option(
        Flag(
            name="target",
            kind=list[str],
            default=("onnxruntime",),
            metavar="onnxruntime[:cpu|:cuda]",
            choices=("onnxruntime", "onnxruntime:cpu", "onnxruntime:cuda"),
            panel=TARGETS,
            read=parse_providers,
            help="Run the model on this device. Without a device, it runs on the CPU, and on CUDA where CUDA works. "
            "Repeatable.",
        )
    )


class Engine(StrEnum):
    """Where the work is done."""

    LOCAL = "local"
    RAY = "ray"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """Whether the work is done on a cluster."""

    engine: Engine = option(
        Flag(
            name="engine",
            kind=Engine,
            default=Engine.LOCAL,
            panel=CLUSTER,
            help="Where the work is done: local is this machine, ray is a Ray cluster whose nodes can read the same "
            "paths and URLs.",
        )
    )
    address: str = option(
        Flag(
            name="address",
            default="",
            metavar="HOST:PORT",
            panel=CLUSTER,
            help="The address of the Ray cluster. By default Ray looks for a cluster, and starts one on this machine if "
            "it finds none. Used with --engine ray.",
        )
    )

    @property
    def cluster(self) -> str | None:
        """The address of the cluster; None for this machine."""
        return self.address if self.engine == Engine.RAY else None

    def __post_init__(self) -> None:
        if self.address and self.engine != Engine.RAY:
            raise UsageError("--address is for a Ray cluster", fix="add --engine ray")
