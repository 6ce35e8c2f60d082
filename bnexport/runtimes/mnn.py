"""MNN as a runtime (MNN): the ONNX file is converted first, in a process of its own, as MNN's users do."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import InputError, MachineError, UsageError
from bnexport.runtimes.checked_session import CheckedSession, read_onnx, signature_of
from bnexport.runtimes.libraries import about_library, refuse_unknown_options
from bnexport.runtimes.protocols import About, Artifact, Signature, Switch, Want
from bnexport.types import Array

if TYPE_CHECKING:
    import MNN

HINTS = {"WINOGRAD_MEMORY_LEVEL": 3, "GEOMETRY_COMPUTE_MASK": 4, "DYNAMIC_QUANT_OPTIONS": 5}
"""MNN's hints for a session (include/MNN/Interpreter.hpp, HintMode)."""

LEVELS = ("precision", "memory", "power")
"""What has a level: normal, high or low."""

STRICT = {"precision": "high", "WINOGRAD_MEMORY_LEVEL": "0"}
"""Float32, and convolutions without Winograd's algorithm, whose large tiles cost 1e-3 (MNN 3.6)."""

CONVERT = "import sys, _mnncengine, _tools; _tools.mnnconvert(sys.argv)"
"""The converter itself. (The command mnnconvert installs a package for sending usage data first, and sends them.)"""


class Mnn:
    """The runtime `mnn`. Options have MNN's names: precision, memory, power, numThread, and hints."""

    def about(self) -> About:
        """The version of MNN; it is not imported."""
        return replace(
            about_library("MNN", ("mnn",), "mnn"),
            reduced_by_default=True,
            setting='precision="high" and set_hint(3, 0)',
            switches=(
                Switch(
                    "WINOGRAD_MEMORY_LEVEL",
                    "0",
                    "RuntimeManager.set_hint(3, 0), which switches Winograd's algorithm off",
                ),
                Switch("precision", "high", 'precision="high" in the configuration'),
            ),
        )

    def open(self, artifact: Artifact, want: Want) -> MnnSession:
        """An ONNX model, converted and loaded; in float32 without Winograd's algorithm unless as deployed."""
        if want.device != "cpu":
            raise MachineError("the runtime mnn supports the CPU only", found=want.device)
        refuse_unknown_options("mnn", want.options, (*LEVELS, "numThread", *HINTS))
        signature = signature_of(read_onnx(artifact, "MNN"))
        options = ({} if want.as_deployed else STRICT) | dict(want.options)
        config: dict[str, str | int] = {"backend": 0}
        for name, value in options.items():
            if name in LEVELS:
                if value not in ("normal", "high", "low"):
                    raise UsageError(
                        f"the option {name} of the runtime mnn is invalid", found=value, expected="normal, high or low"
                    )
                config[name] = value
            else:
                if not value.isdecimal():
                    raise UsageError(
                        f"the option {name} of the runtime mnn is invalid", found=value, expected="a number"
                    )
                if name not in HINTS:
                    config[name] = int(value)
        with tempfile.TemporaryDirectory(prefix="bnexport-") as folder:
            file = _convert(artifact, Path(folder))
            import MNN.nn

            manager = MNN.nn.create_runtime_manager((config,))
            for name in HINTS.keys() & options.keys():
                manager.set_hint(HINTS[name], int(options[name]))
            inputs, outputs = ([port.name for port in ports] for ports in (signature.inputs, signature.outputs))
            try:
                net = MNN.nn.load_module_from_file(
                    str(file), inputs, outputs, runtime_manager=manager, shape_mutable=True
                )
            except Exception as error:  # MNN raises SystemError, ValueError and others
                raise InputError(f"MNN cannot load {artifact.name} as it was converted ({error})") from error
        return MnnSession(net, signature)


class MnnSession(CheckedSession):
    """A model that MNN has loaded."""

    def __init__(self, net: MNN.nn.Module, signature: Signature) -> None:
        super().__init__(signature)
        self._net: MNN.nn.Module | None = net

    def compute(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """All outputs for a batch, in the order in which MNN was asked for them."""
        import MNN.expr as expr

        if self._net is None:
            raise InputError("the session is closed", fix="open it again")
        given = []
        for port in self.signature.inputs:
            x = inputs[port.name]
            kind = {"f": "float", "i": "int", "b": "int", "u": "int"}[port.dtype.kind]
            plain = np.ascontiguousarray(x, np.float32 if kind == "float" else np.int32)
            given.append(expr.const(plain, list(x.shape), expr.NCHW, getattr(expr, kind)))
        values = self._net.onForward(given)
        names = [port.name for port in self.signature.outputs]
        if len(values) != len(names):
            raise InputError("MNN does not run the batch", found=f"{len(values)} of {len(names)} outputs")
        arrays = {}
        for name, value in zip(names, values, strict=True):
            ordered = expr.convert(value, expr.NCHW) if value.data_format == expr.NC4HW4 else value
            arrays[name] = np.array(ordered.read())
        return arrays

    def close(self) -> None:
        """Forgets the model."""
        super().close()
        self._net = None


def _convert(artifact: Artifact, folder: Path) -> Path:
    """The file that MNN makes of an ONNX model.

    Raises:
        InputError: MNN cannot convert it.
    """
    source, result = folder / "model.onnx", folder / "model.mnn"
    source.write_bytes(artifact.content)
    arguments = ["-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(result), "--bizCode", "bnexport"]
    process = subprocess.run(  # noqa: S603 - this very program
        [sys.executable, "-c", CONVERT, *arguments, "--keepInputFormat=1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if process.returncode or not result.exists():
        words = conversion_problem(process.stdout.decode(errors="replace"))
        raise InputError(f"MNN cannot convert {artifact.name} ({words or f'exit status {process.returncode}'})")
    return result


def conversion_problem(printed: str) -> str:
    r"""What MNN's converter says is wrong.

    >>> conversion_problem("Start to Optimize\n[19:49:55] :220: These Op Not Support: ONNX::Foo \nConverted Failed!\n")
    'These Op Not Support: ONNX::Foo'
    """
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    telling = [line for line in lines if any(word in line for word in ("Not Support", "rror", "ailed", "invalid"))]
    line = next((line for line in telling if "Converted Failed" not in line), lines[-1] if lines else "")
    return line.rpartition(":220: ")[2] if ":220: " in line else line.partition("] ")[2] or line
