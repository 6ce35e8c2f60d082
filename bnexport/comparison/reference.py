"""The Keras model of a check: what it is, its export and its passes. What the cache holds is not computed again, and while that is all, TensorFlow stays out."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from numpy.typing import NDArray

from bnexport.datasets import sidecar
from bnexport.datasets.sidecar import Sidecar
from bnexport.errors import InputError, refusing
from bnexport.exporter import conversion, tf2onnx_convert
from bnexport.frameworks import keras_model, saved_model
from bnexport.frameworks.description import Description, without_layers
from bnexport.frameworks.keras_model import LoadedModel
from bnexport.frameworks.keras_passes import Passes
from bnexport.frameworks.saved_model import SavedModel
from bnexport.frameworks.saved_model_files import refuse_needless_signature
from bnexport.onnx_graph import outputs, tensors
from bnexport.onnx_graph.protobuf import serialise
from bnexport.progress import Progress
from bnexport.results.runs import Mode
from bnexport.runtimes import ort_library
from bnexport.system import cache, files
from bnexport.system.cache import Cache
from bnexport.system.exclusive import PROCESS
from bnexport.system.files import Format

if TYPE_CHECKING:
    import onnx

Outputs = dict[str, NDArray[Any]]


class Reference:
    """A Keras model file, or a SavedModel folder, which has an inference pass only.

    Args:
        path: the file.
        known: its sidecar, which travels into the export.
        store: what was computed before.
        trust: load it even where it holds code of its own.
        progress: told when TensorFlow is loaded, and when the model is exported.
    """

    modes: tuple[Mode, ...] = ("inference", "training")
    runtime = "keras"

    def __init__(self, path: Path, known: Sidecar | None, store: Cache, *, trust: bool, progress: Progress) -> None:
        self._facts = cache.facts(path)
        with ThreadPoolExecutor(1) as beside:  # large files take a while to hash, and packages to import
            digest = beside.submit(store.sha256, path)
            importlib.import_module("onnx")
            ort_library.version()
        self.path, self.sha256 = path, digest.result()
        self._known, self.store, self._trust, self._progress = known, store, trust, progress
        self._key = f"{self.sha256} trusted" if trust else self.sha256  # everything that what is computed depends on
        self._loaded: LoadedModel | None = None
        self._passes: Passes | None = None

    @property
    def model(self) -> LoadedModel:
        """The model itself.

        Raises:
            InputError: it cannot be read, or was changed since its hash was taken.
            MachineError: TensorFlow is not installed.
        """
        if self._loaded is None:
            self._progress.stage("loading TensorFlow and the model")
            with PROCESS:  # Keras reads one model at a time
                loaded = keras_model.load(self.path, trust=self._trust)
            if (loaded.sha256, cache.facts(self.path)) != (self.sha256, self._facts):
                raise cache.change_error(self.path)
            self._loaded = loaded
        return self._loaded

    @property
    def passes(self) -> Passes:
        """Its passes, which are not looked up in the cache."""
        if self._passes is None:
            self._passes = Passes(self.model)
        return self._passes

    def description(self) -> Description:
        """What it is."""
        stored = self.store.get("description", self._key)
        if stored is not None:
            with contextlib.suppress(msgspec.MsgspecError):  # it was written by something else: computed again
                return msgspec.json.decode(stored, type=Description)
        found = self._described()
        self.store.put(json.dumps(asdict(found)).encode(), "description", self._key)
        return found

    def _described(self) -> Description:
        model = self.model
        return Description(
            format=str(model.format),
            inputs=[(t.name, list(t.shape), t.dtype) for t in model.inputs],
            outputs=list(model.outputs),
            parameters=model.parameters,
            layers=model.layers,
            frozen=model.frozen,
            dtype=model.dtype,
            iterations=model.iterations,
            repairs=list(model.repairs),
            random_layers=self.passes.random_layers(),
            versions=keras_model.versions(),
        )

    def graph(self) -> tuple[onnx.ModelProto, bytes]:
        """Its inference graph; and the same serialised, with the logits among its outputs.

        Raises:
            ExportError: it cannot be written as ONNX.
            InputError: it cannot be read.
        """
        import onnx

        travelling = json.dumps(sidecar.for_metadata(self._known), sort_keys=True)
        key = ("graph", self._key, self.path.name, travelling)
        stored = self.store.get(*key)
        if stored is not None:
            graph: onnx.ModelProto = onnx.ModelProto.FromString(stored)
            given = [info for info in graph.graph.output if info.name in self.description().outputs]
            del graph.graph.output[:]
            graph.graph.output.extend(given)
            return graph, stored
        graph = self._exported()
        logits = [tensor for tensor, _ in outputs.squashing_functions(graph).values()]
        whole = serialise(tensors.with_outputs(graph, logits))
        self.store.put(whole, *key)
        return graph, whole

    def _exported(self) -> onnx.ModelProto:
        model = self.model
        tf2onnx_convert.load_framework()
        self._progress.stage("exporting")
        return conversion.graph_of(model, self._known)

    def run(self, mode: Mode, feeds: Mapping[str, NDArray[Any]]) -> Outputs:
        """One pass over one batch, as `bnexport.frameworks.keras_passes.Passes.run`."""
        return self._remembered(lambda: self._computed(mode, feeds), mode, "float32", cache.fingerprint(feeds))

    def _computed(self, mode: Mode, feeds: Mapping[str, NDArray[Any]]) -> Outputs:
        with refusing(f"Keras cannot run {self.path}"):
            return self.passes.run(mode, feeds)

    def run_in_float32(self, mode: Mode, feeds: Mapping[str, NDArray[Any]]) -> Outputs:
        """The pass that `run_in_float64` is compared with, to see how far rounding moves it."""
        return self.run(mode, feeds)

    def run_in_float64(self, mode: Mode, feeds: Mapping[str, NDArray[Any]]) -> Outputs:
        """The same in float64.

        Raises:
            InputError: the model does not compute in float64.
        """
        return self._remembered(
            lambda: self.passes.run_in_float64(mode, feeds), mode, "float64", cache.fingerprint(feeds)
        )

    def drawn(self, feeds: Mapping[str, NDArray[Any]], seed: int) -> Outputs:
        """What `fit` computes, random layers included; another `seed`, other random numbers."""
        return self._remembered(lambda: self.passes.drawn(feeds, seed), "drawn", str(seed), cache.fingerprint(feeds))

    def _remembered(self, computed: Callable[[], Outputs], *key: str) -> Outputs:
        found = self.store.get_arrays("pass", self._key, *key)
        if found is None:
            found = computed()
            self.store.put_arrays(found, "pass", self._key, *key)
        return found


class SavedReference(Reference):
    """A SavedModel folder: one graph, which knows no layers and no modes.

    Args:
        path, known, store, trust, progress: those of `Reference`.
        signature: which of its functions is run; "" for "serving_default", or the only one.
    """

    modes = ("inference",)
    runtime = "tensorflow"
    _saved: SavedModel | None = None

    def __init__(
        self, path: Path, known: Sidecar | None, store: Cache, *, trust: bool, progress: Progress, signature: str = ""
    ) -> None:
        super().__init__(path, known, store, trust=trust, progress=progress)
        self._signature = signature
        self._key = json.dumps([self.sha256, signature, trust])

    @property
    def saved(self) -> SavedModel:
        """The SavedModel itself."""
        if self._saved is None:
            self._progress.stage("loading TensorFlow and the SavedModel")
            keras_model.load_framework()
            saved = saved_model.load(self.path, signature=self._signature, trust=self._trust)
            if saved.sha256 != self.sha256:
                raise cache.change_error(self.path)
            self._saved = saved
        return self._saved

    @property
    def passes(self) -> Passes:
        """There are none.

        Raises:
            InputError: always.
        """
        raise InputError("a SavedModel is one graph that computes in its own precision, without layers or modes")

    def _described(self) -> Description:
        saved = self.saved
        outputs = [name for name in saved.outputs if not name.endswith("/logits")]
        return without_layers(str(Format.SAVED_MODEL), saved.inputs, outputs, saved.parameters, keras_model.versions())

    def _exported(self) -> onnx.ModelProto:
        saved = self.saved
        tf2onnx_convert.load_framework()
        self._progress.stage("exporting")
        return conversion.saved_graph_of(saved, self._known)

    def _computed(self, mode: Mode, feeds: Mapping[str, NDArray[Any]]) -> Outputs:  # noqa: ARG002 - there is one
        return self.saved.run(feeds)


def opened(
    path: Path, known: Sidecar | None, store: Cache, *, trust: bool, progress: Progress, signature: str = ""
) -> Reference:
    """The reference in a model file or a SavedModel folder; the arguments are those of `SavedReference`.

    Raises:
        InputError: it cannot be read.
        UsageError: a signature is named for what has none.
    """
    refuse_needless_signature(path, signature)
    if files.model_format(path) == Format.SAVED_MODEL:
        return SavedReference(path, known, store, trust=trust, progress=progress, signature=signature)
    return Reference(path, known, store, trust=trust, progress=progress)
