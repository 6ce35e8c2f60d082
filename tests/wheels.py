"""Hand-made wheels of a few kilobytes, for tests that install packages without a network."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

RUNTIME = '''"""An onnxruntime that computes x + 1, in a graph of two additions; its optimisation Pad_Fusion loses one of them in some releases."""
import numpy as np

__version__ = "{version}"
BROKEN = {broken}
MESSAGE = "{message}"
if MESSAGE == "import":
    raise ImportError("the library is damaged")


class GraphOptimizationLevel:
    ORT_DISABLE_ALL, ORT_ENABLE_ALL = 0, 99


class SessionOptions:
    graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_ALL

    def add_session_config_entry(self, key, value):
        pass


class RunOptions:
    terminate = False


class Tensor:
    def __init__(self, name):
        self.name, self.shape, self.type = name, ["n", 2], "tensor(float)"


def fields(content):
    """The fields of a protobuf message: number and value, of varints and of what has a length."""
    position = 0

    def varint():
        nonlocal position
        value, shift = 0, 0
        while True:
            byte, position = content[position], position + 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while position < len(content):
        key = varint()
        value = varint()
        if key & 7 == 2:
            value, position = content[position : position + value], position + value
        yield key >> 3, value


class InferenceSession:
    def __init__(self, model, options, providers, enable_fallback, disabled_optimizers):
        if MESSAGE == "refuse":
            raise RuntimeError("ONNX Runtime only guarantees support for models stamped with official released onnx opset versions")
        graphs = [graph for number, graph in fields(model) if number == 7]  # a bundle appends one with more outputs
        infos = [dict(fields(info)) for graph in graphs for number, info in fields(graph) if number == 12]
        self.outputs = list(dict.fromkeys(info[1].decode() for info in infos))
        fused = options.graph_optimization_level and not "Pad_Fusion" in (disabled_optimizers or ())
        self.lost = 0.5 if BROKEN and ((fused and "p" not in self.outputs) or BROKEN == "always") else 0

    def disable_fallback(self):
        pass

    def get_inputs(self):
        return [Tensor("x")]

    def get_providers(self):
        return ["CPUExecutionProvider"]

    def get_outputs(self):
        if MESSAGE == "other interface":
            return self.list_outputs()
        return [Tensor(name) for name in self.outputs]

    def run(self, names, feeds, options):
        x = feeds["x"]
        values = {{"p": x + np.float32(0.5), "y": x + np.float32(1 - self.lost)}}
        return [values[name] for name in names]


def get_available_providers():
    return ["CPUExecutionProvider"]


def set_default_logger_severity(severity):
    pass
'''


def runtime_wheel(
    folder: Path,
    version: str,
    *,
    broken: object = False,
    message: str = "",
    tag: str = "py3-none-any",
    needs: str = "numpy",
) -> None:
    """A release of `onnxruntime` that computes x + 1; a broken one x + 0.5.

    Args:
        folder: where the wheel is written.
        version: its version.
        broken: whether it is wrong, unless its optimisation is off, or "always".
        message: "import" for one that cannot be imported, "refuse" for one that reads no model, "other interface" for one of another API.
        tag: the interpreters and machines that it is for.
        needs: what it requires.
    """
    source = RUNTIME.format(version=version, broken=repr(broken), message=message)
    wheel(folder, "onnxruntime", version, {"onnxruntime/__init__.py": source}, tag=tag, needs=needs)


def numpy_wheel(folder: Path, beside: Path) -> None:
    """A package `numpy` that leads to the NumPy of this interpreter and to nothing else.

    Args:
        folder: where the wheel is written.
        beside: a folder for the links.
    """
    installed = Path(np.__file__).parent
    beside.mkdir()
    for part in (installed, installed.with_name("numpy.libs")):
        if part.exists():
            (beside / part.name).symlink_to(part, target_is_directory=True)
    wheel(folder, "numpy", np.__version__, {"numpy-here.pth": f"{beside}\n"})


def wheel(
    folder: Path, name: str, version: str, content: Mapping[str, str], *, tag: str = "py3-none-any", needs: str = ""
) -> None:
    """Writes a wheel."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + (
        f"Requires-Dist: {needs}\n" if needs else ""
    )
    about = f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n"
    parts = {**content, f"{info}/METADATA": metadata, f"{info}/WHEEL": about}
    record = "".join(f"{path},,\n" for path in [*parts, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as archive:
        for path, text in {**parts, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)
