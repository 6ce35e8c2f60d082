"""tract as a runtime (tract): a session of its own for each shape of batch, because open axes are more than it can follow in many models."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bnexport.errors import InputError, MachineError, UsageError
from bnexport.onnx_graph.fixed_axes import fix_axes
from bnexport.onnx_graph.protobuf import serialise
from bnexport.runtimes.checked_session import CheckedSession, read_onnx, signature_of
from bnexport.runtimes.libraries import about_library, first_line, refuse_unknown_options
from bnexport.runtimes.protocols import About, Artifact, Switch, Want
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx
    import tract

MOST = 4
"""So many sessions are kept, the latest ones."""

AXES = ("fixed", "open")
"""Whether the open axes of a file are fixed to each batch, which is what most models need, or left as they are."""


class Tract:
    """The runtime `tract`."""

    def about(self) -> About:
        """The version of tract; it is not imported."""
        return replace(
            about_library("tract", ("tract",), "tract"),
            switches=(Switch("axes", "fixed", "the open axes of the file fixed to the shape of the batch"),),
        )

    def open(self, artifact: Artifact, want: Want) -> TractSession:
        """An ONNX model that tract can parse; it is compiled for the first batch."""
        if want.device != "cpu":
            raise MachineError("the runtime tract supports the CPU only", found=want.device)
        refuse_unknown_options("tract", want.options, ("axes",))
        axes = want.options.get("axes", AXES[0])
        if axes not in AXES:
            raise UsageError("the option axes of the runtime tract is invalid", found=axes, expected=" or ".join(AXES))
        model = read_onnx(artifact, "tract")
        _parse(model, artifact.name)
        return TractSession(model, artifact.name, fixed=axes == AXES[0])


class TractSession(CheckedSession):
    """An ONNX model that tract has parsed.

    Args:
        model: the model.
        name: what messages call it.
        fixed: whether open axes are fixed to each batch.
    """

    def __init__(self, model: onnx.ModelProto, name: str, *, fixed: bool = True) -> None:
        super().__init__(signature_of(model))
        self._model, self._name, self._fixed = model, name, fixed
        self._runnables: dict[tuple[tuple[int, ...], ...], tract.Runnable] = {}

    def compute(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """All outputs for a batch: tract has an order of them, and no names."""
        from tract.bindings import TractError

        ordered = [inputs[port.name] for port in self.signature.inputs]
        shapes = tuple(value.shape for value in ordered) if self._fixed else ()
        try:
            if shapes not in self._runnables:
                while len(self._runnables) >= MOST:
                    del self._runnables[next(iter(self._runnables))]
                model = fix_axes(self._model, {n: x.shape for n, x in inputs.items()}) if self._fixed else self._model
                self._runnables[shapes] = _parse(model, self._name).into_model().into_runnable()
            values = self._runnables[shapes].run(ordered)
            names = [port.name for port in self.signature.outputs]
            return {name: value.to_numpy() for name, value in zip(names, values, strict=True)}
        except TractError as error:
            raise InputError(f"tract does not run the batch ({words(str(error))})") from error

    def close(self) -> None:
        """Forgets all sessions."""
        super().close()
        self._runnables.clear()


def _parse(model: onnx.ModelProto, name: str) -> tract.InferenceModel:
    """A model as tract reads it, which needs a file."""
    import tract
    from tract.bindings import TractError

    with tempfile.TemporaryDirectory(prefix="bnexport-") as folder:
        file = Path(folder) / "model.onnx"
        file.write_bytes(serialise(model))
        try:
            return tract.onnx().load(str(file))
        except TractError as error:
            raise InputError(f"tract cannot read {name} ({words(str(error))})") from error


def words(text: str) -> str:
    r"""What an error of tract says: the cause, and where in the model, without the backtrace of Rust.

    >>> words("Translating node #3 \"conv\"\n\nCaused by:\n    0: declutter\n    1: Invalid axis\n\nStack backtrace:\n   0: anyhow")
    'Translating node #3 "conv": Invalid axis'
    """
    lines = [line.strip() for line in text.partition("Stack backtrace")[0].splitlines() if line.strip()]
    causes = [line.partition(": ")[2] if line[:1].isdigit() else line for line in lines if line != "Caused by:"]
    whole = first_line(causes[0]) if causes else "no reason"
    return whole if len(causes) < 2 else f"{whole[:120]}: {causes[-1]}"
