"""`bench.py batch`: see there."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZE = 224
BATCH = 32
FEW, MANY = 500, 10_000
LINES = 1_000_000
MODELS = Path(__file__).parent.parent / "models"


def run(images: int, rounds: int) -> dict[str, Any]:
    """All parts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _photos(folder / "photos", images)
        found = {"throughput": _throughput(folder, images, rounds)}
        found["memory"] = _memory(folder)
        found["manifest"] = _manifest(folder)
        found["jobs"] = _jobs(folder, rounds)
    return found


def _photos(folder: Path, count: int) -> None:
    """JPEG files of 500x375 pixels, cut from two photographs."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    folder.mkdir()
    photos = load_sample_images().images
    rng = np.random.default_rng(0)
    for nth in range(count):
        photo = photos[nth % len(photos)]
        top, left = (int(rng.integers(0, room + 1)) for room in (photo.shape[0] - 375, photo.shape[1] - 500))
        Image.fromarray(photo[top : top + 375, left : left + 500]).save(folder / f"{nth:05}.jpg", quality=90)


def _throughput(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """One ONNX side from files to comparison against the bare runtime on decoded arrays, in turns."""
    import keras

    from bnexport import datasets, export
    from bnexport.comparison import sides
    from bnexport.comparison.subject import read_onnx
    from bnexport.comparison.tally import Tally
    from bnexport.datasets.feeds import Pictures
    from bnexport.datasets.sidecar import Sidecar
    from bnexport.results.heads import Heads
    from bnexport.results.preprocessing import Preprocessing, Resize, Scaling
    from bnexport.results.runs import Role, RunSpec
    from bnexport.results.tolerance import Tolerances
    from bnexport.system import machine

    keras.applications.ResNet50(weights=None, input_shape=(SIZE, SIZE, 3)).save(folder / "resnet50.keras")
    export(folder / "resnet50.keras", folder / "resnet50.onnx")
    graph = read_onnx(folder / "resnet50.onnx")
    [runner] = sides.onnx_sides(graph, ["cpu"], modes=("inference",))
    tensor = graph.graph.input[0].name
    spec = Preprocessing((SIZE, SIZE), 3, resize=Resize.PIL_BILINEAR, scaling=Scaling.CAFFE)
    threads = machine.threads()
    listing = datasets.find(folder / "photos")
    feeds = Pictures(listing, datasets.Reader(listing, spec, BATCH, threads), Sidecar(), tensor)
    decoded = [feed.inputs for feed in feeds]
    golden = [runner.compute(inputs) for inputs in decoded]
    reference = sides.Runner(RunSpec("keras", "inference", "tensorflow", Role.CONTROL), lambda _: {})
    outputs = tuple(golden[0])
    heads = Heads(tuple(o for o in outputs if "/" not in o), {o: "Softmax" for o in outputs if "/" not in o}, (), False)

    def bare() -> None:
        for inputs in decoded:
            runner.compute(inputs)

    def whole() -> None:
        tally = Tally([reference.spec, runner.spec], heads, Tolerances())
        for nth, feed in enumerate(feeds):
            recorded = {reference.id: golden[nth]}
            tally.begin(feed, golden[nth])
            tally.add(reference.id, feed, golden[nth], {})
            tally.add(runner.id, feed, runner.compute(feed.inputs), recorded)
        assert all(comparison for comparison in tally.judge((), ())[0])  # noqa: S101 - a benchmark of nothing else

    seconds: dict[str, list[float]] = {"bare": [], "whole": []}
    cpu: dict[str, list[float]] = {"bare": [], "whole": []}
    for _ in range(rounds):
        for name, work in (("bare", bare), ("whole", whole)):
            begun, used = time.perf_counter(), time.process_time()
            work()
            seconds[name].append(time.perf_counter() - begun)
            cpu[name].append(time.process_time() - used)
    bare_s, whole_s = (statistics.median(seconds[name]) for name in ("bare", "whole"))
    bare_cpu, whole_cpu = (statistics.median(cpu[name]) for name in ("bare", "whole"))
    steps = _steps(listing, spec, partial(_compared, golden, heads, runner.id))
    preparing = steps["decode"] + steps["resize"] + steps["scale"]
    limit = bare_cpu / (bare_cpu + preparing)
    total = bare_cpu + sum(steps.values())
    ratio = bare_s / whole_s
    print(
        f"ResNet50 at {SIZE} px, {count} JPEG files of 500x375, batches of {BATCH}, {threads} threads, medians of {rounds}"
    )
    print(f"| bare onnxruntime loop on decoded arrays | {count / bare_s:.1f} images/s | 1.00 |")
    print(f"| one side of a check, from files to comparison | {count / whole_s:.1f} images/s | {ratio:.2f} |")
    print(f"| the most that the CPU time of decoding leaves | {count / bare_s * limit:.1f} images/s | {limit:.2f} |")
    print(f"of what decoding leaves: {ratio / limit:.2f}; CPU seconds {bare_cpu:.1f} bare, {whole_cpu:.1f} whole")
    shares = {"run": bare_cpu / total, **{name: used / total for name, used in steps.items()}}
    print("share of CPU time: " + ", ".join(f"{name} {share:.1%}" for name, share in shares.items()))
    return {
        "bare": count / bare_s,
        "whole": count / whole_s,
        "ratio": ratio,
        "limit": limit,
        "of_limit": ratio / limit,
        "shares": shares,
        "decode_ms": {name: 1e3 * used / count for name, used in steps.items()},
    }


def _steps(listing: Any, spec: Any, compare: Callable[[], None]) -> dict[str, float]:
    """CPU seconds of each step for all images, in one thread."""
    import simplejpeg
    from PIL import Image

    from bnexport.datasets import pixels
    from bnexport.datasets.preprocess import preprocess

    def used(work: Callable[[], Any]) -> tuple[float, Any]:
        begun = time.process_time()
        made = work()
        return time.process_time() - begun, made

    found = {"decode": 0.0, "resize": 0.0, "scale": 0.0}
    for picture in listing:
        content = picture.read()
        decode, _ = used(lambda: Image.fromarray(simplejpeg.decode_jpeg(content, fastdct=True)))  # noqa: B023 - used at once
        both, array = used(lambda: pixels(content, spec))  # noqa: B023 - as above
        scale, _ = used(lambda: preprocess(array, spec))  # noqa: B023 - as above
        found["decode"] += decode
        found["resize"] += max(0.0, both - decode)
        found["scale"] += scale
    found["compare"], _ = used(compare)
    return found


def _compared(golden: list[Mapping[str, NDArray[Any]]], heads: Any) -> None:
    from bnexport.comparison.tally import Tally
    from bnexport.datasets.feeds import Feed
    from bnexport.results.runs import Role, RunSpec
    from bnexport.results.tolerance import Tolerances

    one = RunSpec("onnxruntime", "inference", "cpu", artifact="onnx")
    reference = RunSpec("keras", "inference", "tensorflow", Role.CONTROL)
    tally = Tally([reference, one], heads, Tolerances())
    for values in golden:
        count = len(next(iter(values.values())))
        feed = Feed({}, tuple(map(str, range(count))), np.full(count, -1, np.int64))
        tally.begin(feed, dict(values))
        tally.add(reference.id, feed, dict(values), {})
        tally.add(one.id, feed, dict(values), {reference.id: dict(values)})


LAUNCH = """
import os, sys, time
cores = {int(core) for core in sys.argv[1].split(",")}
os.sched_setaffinity(0, cores)
null = [(os.POSIX_SPAWN_OPEN, n, os.devnull, os.O_WRONLY, 0) for n in (1, 2)]
begun = time.perf_counter()
child = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[2:]], os.environ, file_actions=null)
_, status, used = os.wait4(child, 0)
print(time.perf_counter() - begun, used.ru_maxrss, os.waitstatus_to_exitcode(status))
"""
"""A process starts with the peak memory of the one that starts it: this one is small."""


def _measured(*arguments: str, cores: list[int] | None = None) -> tuple[float, float]:
    """Wall seconds and peak memory in MB of `python ARGUMENTS`."""
    mine = ",".join(map(str, cores or sorted(os.sched_getaffinity(0))))
    command = [sys.executable, "-S", "-c", LAUNCH, mine, *arguments]
    seconds, memory, code = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if int(code) not in (0, 1):
        raise SystemExit(f"{' '.join(arguments)} ended with {code}")
    return float(seconds), int(memory) / 1024


def _memory(folder: Path) -> dict[str, float]:
    """Peak memory of a whole check, by the number of images (the same files again and again, through a manifest)."""
    photos = sorted((folder / "photos").iterdir())
    found = {}
    for count in (FEW, MANY):
        table = folder / f"{count}.csv"
        table.write_text("".join(f"{photos[nth % len(photos)]}\n" for nth in range(count)))
        _, found[str(count)] = _measured(
            "-m",
            "bnexport",
            "check",
            str(MODELS / "tiny_residual.onnx"),
            str(table),
            "--target",
            "cpu",
            "--no-cache",
            "-q",
        )
    growth = found[str(MANY)] / found[str(FEW)]
    print(
        f"peak memory of a check: {found[str(FEW)]:.0f} MB with {FEW} images, {found[str(MANY)]:.0f} with {MANY}: {growth:.2f}"
    )
    return {**found, "growth": growth}


def _manifest(folder: Path) -> dict[str, float]:
    """From the start of Python to the first batch, out of a manifest of a million lines."""
    table = folder / "million.csv"
    with table.open("w") as stream:
        stream.write("path,label\n")
        stream.writelines(f"photos/{nth % 32:05}.jpg,class {nth % 10}\n" for nth in range(LINES))
    script = (
        "from bnexport import datasets; from bnexport.results.preprocessing import Preprocessing\n"
        f"listing = datasets.find({str(table)!r}); batch = next(iter(datasets.Reader(listing, Preprocessing(({SIZE}, {SIZE}), 3))))\n"
        f"assert (len(listing), len(batch.names)) == ({LINES}, 32)"
    )
    seconds, memory = _measured("-c", script)
    print(f"a manifest of {LINES:,} lines: the first batch after {seconds:.1f} s, {memory:.0f} MB")
    return {"seconds": seconds, "memory": memory}


def _jobs(folder: Path, rounds: int) -> dict[str, float]:
    """A plan of small models with one job and with two."""
    import onnx

    place = folder / "plan"
    (place / "models").mkdir(parents=True)
    for nth in range(24):
        model = onnx.load(MODELS / "tiny_residual.onnx")
        model.doc_string = str(nth)
        onnx.save(model, place / f"models/{nth:02}.onnx")
    shutil.copytree(MODELS / "three", place / "set")
    (place / "plan.toml").write_text('[[check]]\nmodels = ["models/*"]\nimages = ["set"]\n')
    cores = sorted(os.sched_getaffinity(0))[:2]
    ways = ((1, cores[:1]), (1, cores), (2, cores))
    seconds: dict[str, list[float]] = {f"{jobs} on {len(mine)}": [] for jobs, mine in ways}
    for nth in range(rounds):
        for jobs, mine in ways:
            results = str(place / f"results-{nth}-{jobs}-{len(mine)}")
            taken, _ = _measured(
                "-m",
                "bnexport",
                "batch",
                str(place / "plan.toml"),
                "--jobs",
                str(jobs),
                "--output-dir",
                results,
                "-q",
                cores=mine,
            )
            seconds[f"{jobs} on {len(mine)}"].append(taken)
    found = {name: statistics.median(each) for name, each in seconds.items()}
    ratio = min(found["1 on 1"], found["1 on 2"]) / found["2 on 2"]
    print(
        f"24 small models: {found['1 on 1']:.1f} s with one job on one core, {found['1 on 2']:.1f} s with one on two, "
        f"{found['2 on 2']:.1f} s with two on two: {ratio:.2f} times as fast as the better of the others"
    )
    return {**found, "ratio": ratio}
