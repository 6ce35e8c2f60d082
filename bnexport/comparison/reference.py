"""The reference of a check: a model in its framework, what it is, its graph and its passes.

What the cache holds is not computed again, and while that is all, the framework stays out.
"""

from __future__ import annotations

import contextlib
import copy
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from bnexport.comparison.description import Description, of_file, of_model
from bnexport.comparison.noise import Noise
from bnexport.datasets import sidecar
from bnexport.datasets.sidecar import Sidecar
from bnexport.errors import InputError, MachineError
from bnexport.exporter.protocols import convert
from bnexport.frameworks.names import is_name
from bnexport.frameworks.protocols import DescribesFiles, Layer, Outputs, ReadsBeside, ReferenceModel, ShowsLayers, Want
from bnexport.frameworks.registry import FRAMEWORKS, Recognised, refuse_needless
from bnexport.onnx_graph import metadata, outputs, tensors
from bnexport.onnx_graph.protobuf import serialise
from bnexport.progress import Progress
from bnexport.results.runs import Mode, Role, RunSpec
from bnexport.results.tolerance import WIDER
from bnexport.runtimes import ort_library
from bnexport.system import cache
from bnexport.system.cache import NOTHING_KEPT, Cache
from bnexport.system.exclusive import run_beside
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

Feeds = Mapping[str, Array]
R = TypeVar("R")


class Reference:
    """A model file in its framework, which is loaded when something has to be computed.

    Args:
        recognition: the framework that knows the file.
        path: the file or folder.
        want: how it is to be loaded.
        store: what was computed before.
        progress: notified when the model is loaded, and when it is exported.

    Raises:
        UsageError: a signature is named for what has none.
    """

    def __init__(self, recognition: Recognised, path: Path, want: Want, store: Cache, progress: Progress) -> None:
        refuse_needless(recognition, path, want)
        self.recognition, self.path, self.want, self._progress = recognition, path, want, progress
        self.store = store if recognition.about.kept else NOTHING_KEPT
        self._model: ReferenceModel | None = None
        self._described_anew = False
        self._loading: Future[ReferenceModel] | None = None
        self._lock = threading.RLock()
        self._facts = () if is_name(path) else cache.facts(path)
        self.sha256 = self._digest()
        # Everything that what is computed depends on, but for the versions that every key of the cache has.
        key = [
            recognition.name,
            recognition.about.device,
            recognition.about.version,
            self.sha256,
            want.signature,
            want.trust,
        ]
        framework = recognition.framework
        beside = self._guard(lambda: framework.digest_beside(path, want)) if isinstance(framework, ReadsBeside) else ""
        self._key = json.dumps([*key, beside] if beside else key)

    def _digest(self) -> str:
        with ThreadPoolExecutor(1) as beside:  # large files take a while to hash, and packages to import
            digest = beside.submit(self.store.sha256, self.path)
            import_module("onnx")
            ort_library.version()
        return digest.result()

    @property
    def title(self) -> str:
        """What sentences call the framework."""
        return self.recognition.about.title or self.recognition.name

    @property
    def graph_itself(self) -> bool:
        """Whether runtimes execute the file as it is, so that there is no framework to compare them with."""
        return self.recognition.about.executable

    def spec(self, mode: Mode) -> RunSpec:
        """What its pass in a mode is as a run."""
        about = self.recognition.about
        return RunSpec(about.runs_as or self.recognition.name, mode, about.device, Role.CONTROL)

    @property
    def model(self) -> ReferenceModel:
        """The model itself.

        Raises:
            InputError: it cannot be read, or was changed since its hash was taken.
            MachineError: the framework is not installed, or fails.
        """
        if self._model is None:
            with self._lock:
                if self._model is None:
                    self._model = self._loading.result() if self._loading is not None else self._load()
        return self._model

    def preload(self) -> None:
        """Begins to load the model beside what else is to be done, where nothing about it was computed before."""
        if self._model is None and self._loading is None and self._described_anew:
            self._loading = run_beside(self._load)

    def _load(self) -> ReferenceModel:
        with self._progress.stage_within(f"loading the model in {self.title}"):
            model = self._read()
        self._refuse_change(model.info.sha256)
        if self.path.is_file() and cache.facts(self.path) != self._facts:
            raise cache.change_error(self.path)
        return model

    def _refuse_change(self, digest: str) -> None:
        """Makes sure that what was read is what was hashed; "" where a framework does not say."""
        if digest not in ("", self.sha256):
            raise cache.change_error(self.path)

    def _read(self) -> ReferenceModel:
        model = self._guard(lambda: self.recognition.framework.load(self.path, self.want))
        if not isinstance(model, ReferenceModel):
            raise MachineError(
                f"the framework {self.recognition.name} did not return a model",
                found=type(model).__name__,
                expected="info, signature, modes and forward",
            )
        if not model.info.complete:
            self.store = NOTHING_KEPT  # entries are keyed by the file, and not by what lies beside it
        return model

    def _guard(self, call: Callable[[], R]) -> R:
        return FRAMEWORKS.guard(self.recognition.name, call)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Which passes it has."""
        return self.description().modes

    def description(self) -> Description:
        """What it is."""
        stored = self.store.get("description", self._key)
        if stored is not None:
            with contextlib.suppress(msgspec.MsgspecError):  # it was written by something else: computed again
                return msgspec.json.decode(stored, type=Description)
        self._described_anew = True
        description = self._describe()
        self.store.put(json.dumps(asdict(description)).encode(), "description", self._key)
        return description

    def _describe(self) -> Description:
        framework = self.recognition.framework
        if self._model is None and isinstance(framework, DescribesFiles):
            described = self._guard(lambda: framework.describe(self.path, self.want))
            if described is not None:
                self._refuse_change(described.info.sha256)
                return of_file(described)
        return of_model(self.model)

    def graph(self, model_sidecar: Sidecar | None) -> tuple[onnx.ModelProto, bytes | None]:
        """Its inference graph; and the same serialise, with the logits among its outputs, where that was made.

        Args:
            model_sidecar: what travels into the graph.

        Raises:
            ExportError: it cannot be written as ONNX.
            InputError: it cannot be read.
        """
        import onnx

        travelling = json.dumps(sidecar.for_metadata(model_sidecar), sort_keys=True)
        key = ("graph", self._key, self.path.name, travelling)
        stored = self.store.get(*key)
        if stored is not None:
            graph: onnx.ModelProto = onnx.ModelProto.FromString(stored)
            given = [info for info in graph.graph.output if info.name in self.description().outputs]
            del graph.graph.output[:]
            graph.graph.output.extend(given)
            return graph, stored
        graph, whole = self._export(model_sidecar), None
        if self.store.root is not None:
            whole = serialise(tensors.with_outputs(graph, [t for t, _ in outputs.squashing_functions(graph).values()]))
            self.store.put(whole, *key)
        return graph, whole

    def _export(self, model_sidecar: Sidecar | None) -> onnx.ModelProto:
        self._progress.stage("exporting")
        graph = convert(self, self.recognition.name, model_sidecar, self._progress)
        source = metadata.read(graph, "source", {})
        self._refuse_change(str(source.get("sha256", "")) if isinstance(source, dict) else "")
        return graph

    def run(self, mode: Mode, feeds: Feeds) -> Outputs:
        """One pass over one batch: every output by name, and `OUTPUT/logits` for each that ends in softmax or sigmoid."""
        return self._recall(lambda: self._forward(feeds, mode), mode, "float32", cache.fingerprint(feeds))

    def _forward(self, feeds: Feeds, mode: Mode, dtype: str = "float32", seed: int | None = None) -> Outputs:
        model = self.model
        arrays = self._guard(lambda: dict(model.forward(feeds, mode=mode, dtype=dtype, seed=seed)))
        if missing := [port.name for port in model.signature.outputs if port.name not in arrays]:
            raise MachineError(f"the framework {self.recognition.name} did not return the output {missing[0]}")
        return arrays

    @property
    def is_loaded(self) -> bool:
        """Whether a pass costs no more than itself."""
        return self._model is not None

    def run_again(self, mode: Mode, feeds: Feeds, dtype: str = "float32") -> Outputs:
        """The same pass, computed also where the cache holds it."""
        return self._forward(feeds, mode, dtype)

    def run_in_float32(self, mode: Mode, feeds: Feeds) -> Outputs:
        """The pass that `run_in_float64` is compared with, to see how far rounding moves it."""
        return self.run(mode, feeds)

    def run_in_float64(self, mode: Mode, feeds: Feeds) -> Outputs:
        """The same in float64.

        Raises:
            InputError: the model does not compute in float64.
        """
        return self._recall(lambda: self._forward(feeds, mode, "float64"), mode, "float64", cache.fingerprint(feeds))

    def noise(self, mode: Mode, feeds: Feeds) -> Noise:
        """A pass, and others that differ from it by rounding only.

        Raises:
            InputError: the model does not compute in float64.
        """
        return Noise(self.run_in_float64(mode, feeds), [self.run_in_float32(mode, feeds)], WIDER)

    def layer_noise(self, mode: Mode, feeds: Feeds, *, most_bytes: int) -> Iterator[Sequence[Array]]:
        """For each layer of `layers` values that differ from its own by rounding only.

        Raises:
            InputError: the framework does not show its layers, or the model does not compute in float64.
        """
        for _, value in self.layers(mode, feeds, dtype="float64", most_bytes=most_bytes):
            yield [value]

    def drawn(self, feeds: Feeds, seed: int) -> Outputs:
        """What `fit` computes, random layers included; another `seed`, other random numbers."""
        return self._recall(
            lambda: self._forward(feeds, "training", seed=seed), "drawn", str(seed), cache.fingerprint(feeds)
        )

    def layers(
        self, mode: Mode, feeds: Feeds, *, dtype: str = "float32", most_bytes: int
    ) -> Iterator[tuple[Layer, Array]]:
        """What every layer computes, in order; at most `most_bytes` are computed at a time.

        Raises:
            InputError: the framework does not show its layers, or the model does not compute in `dtype`.
        """
        model = self.model
        if not isinstance(model, ShowsLayers):
            raise InputError(f"layers cannot be compared with {self.title} as the reference")
        layers = self._guard(lambda: iter(model.layers(feeds, mode=mode, dtype=dtype, most_bytes=most_bytes)))
        while (entry := self._guard(lambda: next(layers, None))) is not None:
            yield entry

    def _recall(self, computed: Callable[[], Outputs], *key: str) -> Outputs:
        arrays = self.store.get_arrays("pass", self._key, *key)
        if arrays is None:
            arrays = computed()
            self.store.put_arrays(arrays, "pass", self._key, *key)
        return arrays

    def without_model(self) -> Reference:
        """The same for another machine: what it is, without what is open here."""
        other = copy.copy(self)
        vars(other).update(_model=None, _loading=None, _progress=Progress(), store=NOTHING_KEPT)
        return other

    def __getstate__(self) -> dict[str, object]:  # locks cannot be copied
        return vars(self) | {"_lock": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state, _lock=threading.RLock())
