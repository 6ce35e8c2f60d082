"""The CUDA acceptance on a bare box: everything that bnexport says about CUDA, seen on a GPU, from files that were carried there.

    python scripts/cuda/check.py BUNDLE [--results scripts/cuda/RESULTS.md]

BUNDLE is what `bnexport demo && bnexport pack bnexport-demo/model.h5 bnexport-demo/images -o bundle` leaves: the seed model as ONNX, its pictures, Keras' own outputs. The box needs bnexport's base
install with the CUDA libraries (`pip install "bnexport[cuda]"`), or the packages of pyproject.toml's `dependencies` as wheels with this folder on PYTHONPATH; no TensorFlow.

It runs four graphs (inference, training twin, recalibrated on CUDA, folded) on the CPU, on CUDA strictly (use_tf32=0, deterministic) and on CUDA as deployed, holds each against Keras' outputs or the CPU's, repeats
runs to see whether they are equal to the bit, and times images a second against a bare onnxruntime loop and against IO binding. What must hold is asserted: exit code 1 where something does not, 3 where CUDA does not run.
`--provider cpu` goes through all of it with the CPU in CUDA's place, which is how the tests see that the script itself works.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bnexport.bundles import bundle
from bnexport.bundles.verify import verify
from bnexport.folding.transform import fold
from bnexport.onnx_graph import outputs, protobuf, statistics, tensors
from bnexport.onnx_graph.protobuf import serialise
from bnexport.onnx_graph.training_mode import training_mode_graph
from bnexport.progress import Progress
from bnexport.recalibration import staged
from bnexport.recalibration.live import live_tensors
from bnexport.reporting.words import floors
from bnexport.results.tolerance import FLOORS, STATED
from bnexport.runtimes import ort_library
from bnexport.runtimes.ort_session import STRICT_CUDA, Cuda, Provider, Session
from bnexport.system import machine, memory_file, nvidia

Array = np.ndarray[Any, np.dtype[Any]]

REPEATS = 5


@dataclass(frozen=True, slots=True)
class Way:
    """One way of running a graph."""

    name: str
    provider: Provider
    cuda: Cuda = STRICT_CUDA


class Report:
    """The lines of RESULTS.md, and whether everything held."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.broken: list[str] = []

    def say(self, text: str = "") -> None:
        """Adds a line, and shows it."""
        print(text, flush=True)
        self.lines.append(text)

    def must(self, holds: bool, what: str) -> str:
        """Notes what does not hold; a mark for the table."""
        if not holds:
            self.broken.append(what)
        return "ok" if holds else "**fails**"


def relative(actual: Array, reference: Array) -> float:
    """Max |actual - reference| / max |reference|."""
    return float(np.abs(actual.astype(np.float64) - reference).max() / np.abs(reference).max())


def inputs(folder: Path, index: bundle.Bundle) -> dict[str, Array]:
    """The first data set's inputs."""
    names = enumerate(index.inputs)
    return {n: protobuf.array_from((folder / f"test_data_set_0/input_{i}.pb").read_bytes(), n) for i, n in names}


def graphs(model: Any, feeds: dict[str, Array], provider: Provider, report: Report) -> dict[str, bytes]:
    """The four graphs; the recalibrated one measured on `provider` and held against the CPU's statistics."""

    def measured(where: Provider) -> Any:
        with live_tensors(None, machine.memory_available() // 2) as live:
            return staged.measure(model, [feeds], len(next(iter(feeds.values()))), live, where, Progress()).moments

    here, reference = measured(provider), measured("cpu")
    far = max(float((np.abs(here[n].mean - m.mean) / np.sqrt(m.var + 1e-12)).max()) for n, m in reference.items())
    again = measured(provider)
    equal = all((here[n].mean == again[n].mean).all() and (here[n].var == again[n].var).all() for n in here)
    mark = report.must(far < STATED["training"], "recalibration on CUDA equals the CPU's")
    report.say(
        f"\nRecalibrated on {provider}: statistics within {far:.1e} standard deviations of the CPU's ({mark}), a second run {'is bit-identical' if equal else 'differs'}."
    )
    recalibrated = statistics.with_statistics(model, statistics.by_initializer(here, model))
    folded = fold(recalibrated)
    report.say(f"Folded: {len(folded.folds)} nodes, {len(folded.refusals)} left.")
    exposed = {
        "inference": model,
        "training twin": training_mode_graph(model),
        "recalibrated": recalibrated,
        "folded": folded.model,
    }
    return {name: serialise(graph) for name, graph in exposed.items()}


def rates(
    content: bytes, feeds: dict[str, Array], way: Way, logits: str, seconds: float
) -> Iterator[tuple[int, float, float, float]]:
    """Images a second at each batch size: through bnexport's Session, a bare onnxruntime loop, and IO binding."""
    import onnxruntime as ort

    [(name, few)] = feeds.items()
    session = Session(content, way.provider, cuda=way.cuda)
    providers = (
        [("CUDAExecutionProvider", way.cuda.options), "CPUExecutionProvider"]
        if way.provider == "cuda"
        else ["CPUExecutionProvider"]
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = machine.threads()
    bare = ort.InferenceSession(content, options, providers=providers)
    for size in (1, 32, 256):
        x = np.resize(few, (size, *few.shape[1:])).astype(few.dtype)
        binding = bare.io_binding()
        binding.bind_cpu_input(name, x)
        binding.bind_output(logits, "cpu")
        ways: list[Callable[[], object]] = [
            lambda x=x: session.run({name: x}, [logits]),
            lambda x=x: bare.run([logits], {name: x}),
            lambda b=binding: bare.run_with_iobinding(b),
        ]
        yield size, *(size * per_second(once, seconds) for once in ways)


def per_second(once: Callable[[], object], seconds: float) -> float:
    """How often a second, the median of the runs that fit into so many seconds after two that do not count."""
    for _ in range(2):
        once()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        begun = time.perf_counter()
        once()
        times.append(time.perf_counter() - begun)
    return 1 / median(times)


def describe_machine(report: Report) -> None:
    """The device and the versions."""
    driver = nvidia.driver()
    gpus = (
        ", ".join(
            f"{gpu.name} ({gpu.capability[0]}.{gpu.capability[1]}, {gpu.memory / 2**30:.0f} GiB)" for gpu in driver.gpus
        )
        if driver
        else "none"
    )
    report.say("# CUDA acceptance\n\nWritten by `scripts/cuda/check.py`.\n")
    report.say(f"* device: {gpus}; driver {driver.version if driver else 'none'}; {machine.threads()} CPU threads")
    report.say(f"* Python {platform.python_version()}, onnxruntime {ort_library.version()}, NumPy {np.__version__}")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--results", type=Path, help="write the report to this file")
    parser.add_argument("--provider", choices=["cuda", "cpu"], default="cuda", help="cpu: a rehearsal without a GPU")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each rate is measured")
    arguments = parser.parse_args()
    provider: Provider = arguments.provider
    if provider == "cuda" and (missing := ort_library.cuda_missing()):
        print(f"CUDA does not run here: {missing}", file=sys.stderr)
        return 3
    report = Report()
    describe_machine(report)
    checked = verify(arguments.bundle, providers=["cpu", provider], require=[provider])
    mark = report.must(bool(checked), "bnexport verify")
    report.say(
        f"* `bnexport verify --require-target onnxruntime:{provider}`: {mark}; findings {[f.code for f in checked.findings]}"
    )
    for c in checked.comparisons:
        report.say(f"    * {c.actual}, {c.tensor}: {c.difference.max_rel:.1e} of scale, {floors(c)} noise floors")

    folder = arguments.bundle
    index = bundle.read(folder)
    feeds = inputs(folder, index)
    plain = protobuf.model_from((folder / memory_file.MODEL).read_bytes())
    tensors.describe(plain)
    logits = next((t.tensor for t in index.tensors if t.name.endswith("/logits")), index.tensors[0].tensor)
    model = tensors.with_outputs(plain, outputs.fetches(plain).values())
    contents = graphs(model, feeds, provider, report)

    ways = [Way("strict", provider), Way("as deployed", provider, Cuda(deployed=True))]
    report.say("\n| graph | way | distance to the CPU | runs equal to the bit | |\n|---|---|---|---|---|")
    for name, content in contents.items():
        reference = Session(content, "cpu").run(feeds, [logits])[logits]
        for way in ways:
            session = Session(content, way.provider, cuda=way.cuda)
            runs = [session.run(feeds, [logits])[logits] for _ in range(REPEATS)]
            far, equal = relative(runs[0], reference), all((run == runs[0]).all() for run in runs)
            allowed = STATED["training" if name == "training twin" else "inference"] if way.name == "strict" else 1.0
            mark = report.must(far <= allowed, f"{name} {way.name} is within {allowed:g} of the CPU")
            report.say(f"| {name} | {way.name} | {far:.1e} | {'yes' if equal else 'no'} | {mark} |")
            same = bool((runs[0].argmax(axis=-1) == reference.argmax(axis=-1)).all())
            report.must(same or way.name != "strict", f"{name} {way.name} gives the CPU's classes")

    report.say("\n| way | batch | Session, images/s | bare loop | ratio | IO binding |\n|---|---|---|---|---|---|")
    for way in ways:
        for size, ours, bare, bound in rates(contents["inference"], feeds, way, logits, arguments.seconds):
            report.say(f"| {way.name} | {size} | {ours:,.0f} | {bare:,.0f} | {ours / bare:.2f} | {bound:,.0f} |")
    summary = "All assertions hold." if not report.broken else "These do not hold: " + "; ".join(report.broken)
    report.say(f"\n{summary} (A side passes within {FLOORS:g} noise floors.)")
    if arguments.results:
        arguments.results.write_text("\n".join(report.lines) + "\n")
    return 1 if report.broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
