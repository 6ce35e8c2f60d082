"""`bnexport doctor`: what this machine can run, and why not the rest."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from importlib.util import find_spec

import numpy as np

from bnexport.errors import BnexportError, MachineError, reason
from bnexport.onnx_graph import probe
from bnexport.results.health import Health, Point, State
from bnexport.results.target_names import required_plugins, split_target
from bnexport.runtimes import ort_library, ort_session
from bnexport.runtimes.protocols import open_runtime
from bnexport.runtimes.survey import survey
from bnexport.system import installed, machine, nvidia
from bnexport.version import __version__

PACKAGES = {
    "numpy": "",
    "onnx": "",
    "pillow": "",
    "simplejpeg": "",
    "tensorflow": "pip install 'bnexport[keras]'",
    "keras": "pip install 'bnexport[keras]'",
    "tf2onnx": "pip install 'bnexport[keras]'",
    "jinja2": "",
    "matplotlib": "pip install 'bnexport[report]'",
}
"""What bnexport works with, and how to get what it can do without ("" for what it cannot)."""

NEEDS_DRIVER = {13: "580", 12: "525"}
"""The oldest Linux driver for a CUDA major version (NVIDIA, "CUDA Compatibility", minor version compatibility)."""

NEEDS_CAPABILITY = (7, 5)
"""The oldest GPUs that CUDA 13 compiles for (Turing)."""

Distributions = Sequence[metadata.Distribution]


def doctor(require: Sequence[str] = ()) -> Health:
    """What this machine can run.

    Args:
        require: "cpu", "cuda", or other targets: what has to run; something that is not required may be absent.

    Raises:
        UsageError: there is no runtime of a required target.
    """
    distributions = list(metadata.distributions())
    points = [
        *(*_machine(), *_packages(distributions), *_runtime(), *_cuda(distributions, needed="cuda" in require)),
        *_runtimes(frozenset(split_target(text).name for text in required_plugins(require))),
    ]
    absent = {point.name for point in points if point.state != State.OK}
    runs = not {"onnxruntime", "one package"} & absent and "run on the CPU" not in absent
    able = (
        ("verify, check FILE.onnx", runs),
        (
            "check, export, recalibrate, train with Keras models",
            runs and not {"tensorflow", "keras", "tf2onnx"} & absent,
        ),
        ("--target onnxruntime:cuda", "run on CUDA" not in absent),
        ("--report FILE.html", "matplotlib" not in absent),
    )
    return Health(tuple(points), able)


def _machine() -> Iterator[Point]:
    yield Point("machine", "Python", State.OK, f"{platform.python_version()}, {sys.executable}")
    yield Point("machine", "system", State.OK, platform.platform())
    cores, threads = os.cpu_count() or 1, machine.threads()
    text = f"{threads} of {cores} cores available (affinity and cgroup)" if threads < cores else f"{cores} cores"
    yield Point("machine", "CPU", State.OK, text)
    limit = machine.memory_limit()
    yield Point(
        "machine", "memory", State.OK, "no cgroup limit" if limit is None else f"{limit / 2**30:.1f} GiB (cgroup)"
    )


def _packages(distributions: Distributions) -> Iterator[Point]:
    yield Point("packages", "bnexport", State.OK, __version__)
    versions = {_name(entry): entry.version for entry in distributions}
    for name, fix in PACKAGES.items():
        if name in versions:
            yield Point("packages", name, State.OK, versions[name])
        else:
            yield Point(
                "packages", name, State.ABSENT if fix else State.BROKEN, "not installed", fix or f"pip install {name}"
            )


def _runtime() -> Iterator[Point]:
    """Onnxruntime: exactly one package of it, and a convolution that is right."""
    owners = installed.packages()
    if len(owners) > 1:
        yield Point("onnxruntime", "one package", State.BROKEN, *installed.mixture(owners))
        return
    try:
        version = ort_library.version()
    except MachineError as error:
        yield Point("onnxruntime", "onnxruntime", State.BROKEN, str(error), "pip install onnxruntime-gpu")
        return
    package = ", ".join(owners) or "not installed by a package"
    yield Point("onnxruntime", "onnxruntime", State.OK, f"{version} ({package})")
    yield _run("onnxruntime", "cpu", State.BROKEN)


def _cuda(distributions: Distributions, *, needed: bool) -> Iterator[Point]:
    missing = State.BROKEN if needed else State.ABSENT
    driver = nvidia.driver()
    if driver is None:
        yield Point(
            "CUDA",
            "driver",
            missing,
            "libcuda.so.1 cannot be loaded",
            "install the NVIDIA driver; in a container: --gpus all",
        )
    elif driver.problem or not driver.gpus:
        yield Point(
            "CUDA", "driver", missing, driver.problem or "no GPU", "check nvidia-smi; in a container: --gpus all"
        )
    else:
        yield from _driver(driver, missing)
    if find_spec("onnxruntime") is None or len(installed.packages()) > 1:
        return
    major = ort_library.cuda_major()
    if major is None:
        fix = "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
        yield Point("CUDA", "provider", missing, "this onnxruntime has no CUDA provider", fix)
    else:
        for library, brings, loads in ort_library.cuda_libraries():
            text = library if loads else f"{library} cannot be loaded"
            fix = "" if loads else "pip install 'bnexport[cuda]'"
            yield Point("CUDA", brings, State.OK if loads else missing, text, fix)
        others = sorted(
            _name(e) for e in distributions if _name(e).startswith("nvidia-") and _name(e).endswith(f"-cu{25 - major}")
        )
        if others:
            text = (
                f"{others[0]} and {len(others) - 1} more are for CUDA {25 - major}, but onnxruntime uses CUDA {major}"
            )
            fix = "use separate environments for tensorflow[and-cuda] and onnxruntime-gpu"
            yield Point("CUDA", "one CUDA", State.BROKEN, text, fix)
    yield _run("CUDA", "cuda", missing)


def _runtimes(required: frozenset[str]) -> Iterator[Point]:
    """Every runtime that a package registers: those that do not run here are absent, or broken where they are required."""
    for name in sorted(required):
        open_runtime(name)  # refuses a name that there is not
    for runtime in survey():
        about = runtime.about
        if about is None:
            yield Point(
                "runtimes",
                runtime.name,
                State.BROKEN,
                runtime.problem,
                "uninstall the package that registers it, or update it",
            )
        elif about.unavailable:
            missing = State.BROKEN if runtime.name in required else State.ABSENT
            yield Point("runtimes", runtime.name, missing, about.unavailable, about.fix)
        else:
            yield Point("runtimes", runtime.name, State.OK, f"{about.version} ({', '.join(about.devices)})")


def _driver(driver: nvidia.Driver, missing: State) -> Iterator[Point]:
    major = ort_library.cuda_major() or driver.cuda[0]
    enough = driver.cuda[0] >= major
    text = f"{driver.version or 'unknown version'}, up to CUDA {driver.cuda[0]}.{driver.cuda[1]}"
    fix = "" if enough else f"update the driver to {NEEDS_DRIVER.get(major, 'a newer one')} or later"
    yield Point("CUDA", "driver", State.OK if enough else missing, text, fix)
    for gpu in driver.gpus:
        able = gpu.capability >= NEEDS_CAPABILITY
        text = f"{gpu.name}, compute capability {gpu.capability[0]}.{gpu.capability[1]}, {gpu.memory / 2**30:.0f} GiB"
        yield Point("CUDA", "GPU", State.OK if able else missing, text, "" if able else "CUDA 13 requires 7.5 or later")


def _run(topic: str, provider: ort_session.Provider, missing: State) -> Point:
    """One convolution, compared with NumPy in float64."""
    name = "run on the CPU" if provider == "cpu" else "run on CUDA"
    try:
        session = ort_session.Session(probe.convolution(), provider)
        outputs = session.run({"x": probe.IMAGE}, ["y"])["y"]
    except BnexportError as error:
        return Point(topic, name, missing, reason(error))
    far = float(np.abs(np.subtract(outputs, probe.expected_output())).max())
    if not far <= probe.TOLERANCE:
        return Point(
            topic, name, State.BROKEN, f"the result of a convolution is wrong by {far:.2g}", "reinstall onnxruntime"
        )
    return Point(topic, name, State.OK, f"the result of a convolution is right (error {far:.1g})")


def _name(entry: metadata.Distribution) -> str:
    return str(entry.metadata["Name"] or "").lower().replace("_", "-")
