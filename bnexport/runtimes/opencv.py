"""OpenCV's dnn module as a runtime (cv2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import InputError, MachineError, UsageError
from bnexport.runtimes.checked_session import CheckedSession, read_onnx, signature_of
from bnexport.runtimes.libraries import about_library, refuse_unknown_options
from bnexport.runtimes.protocols import About, Artifact, Signature, Switch, Want
from bnexport.types import Array

if TYPE_CHECKING:
    import cv2

PACKAGES = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")
"""The packages that bring cv2."""

ENGINES = ("classic", "new", "auto")
"""OpenCV 5's ways of running a model; "auto", its default, is the new one with the classic one where that cannot read the model."""

SWITCHES = ("fusion", "winograd")
"""What can be switched off with 0: layers that are fused, convolutions by Winograd's algorithm."""


class OpenCv:
    """The runtime `opencv`: `cv2.dnn`."""

    def about(self) -> About:
        """The version of OpenCV; it is not imported."""
        return replace(
            about_library("cv2", PACKAGES, "opencv"),
            switches=(
                Switch("engine", "classic", "readNetFromONNX(file, cv2.dnn.ENGINE_CLASSIC)"),
                Switch("engine", "new", "readNetFromONNX(file, cv2.dnn.ENGINE_NEW)"),
                Switch("fusion", "0", "net.enableFusion(False)"),
                Switch("winograd", "0", "net.enableWinograd(False)"),
            ),
        )

    def open(self, artifact: Artifact, want: Want) -> OpenCvSession:
        """An ONNX model, ready to run."""
        if want.device != "cpu":
            raise MachineError("the runtime opencv supports the CPU only", found=want.device)
        refuse_unknown_options("opencv", want.options, ("engine", *SWITCHES, "threads"))
        model = read_onnx(artifact, "OpenCV")
        import cv2

        if "threads" in want.options:
            cv2.setNumThreads(_number("threads", want.options["threads"]))
        content = np.frombuffer(artifact.content, np.uint8)
        try:
            if engine := want.options.get("engine"):
                net = cv2.dnn.readNetFromONNX(content, _engine(engine))
            else:
                net = cv2.dnn.readNetFromONNX(content)
        except cv2.error as error:
            raise InputError(f"OpenCV cannot read {artifact.name} ({words(str(error))})") from error
        if "fusion" in want.options:
            net.enableFusion(bool(_number("fusion", want.options["fusion"])))
        if "winograd" in want.options:
            net.enableWinograd(bool(_number("winograd", want.options["winograd"])))
        return OpenCvSession(net, signature_of(model))


class OpenCvSession(CheckedSession):
    """A model that OpenCV has read."""

    def __init__(self, net: cv2.dnn.Net, signature: Signature) -> None:
        super().__init__(signature)
        self._net: cv2.dnn.Net | None = net

    def compute(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """All outputs for a batch: the new engine gives all or none."""
        import cv2

        if self._net is None:
            raise InputError("the session is closed", fix="open it again")
        names = [port.name for port in self.signature.outputs]
        try:
            for name, value in inputs.items():
                self._net.setInput(value, name)
            values = self._net.forward(names)
        except cv2.error as error:
            raise InputError(f"OpenCV does not run the batch ({words(str(error))})") from error
        return dict(zip(names, values, strict=True))

    def close(self) -> None:
        """Forgets the model."""
        super().close()
        self._net = None


def _number(option: str, text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"the option {option} of the runtime opencv is invalid", found=text, expected="a number")
    return int(text)


def _engine(name: str) -> int:
    import cv2

    value = getattr(cv2.dnn, f"ENGINE_{name.upper()}", None) if name in ENGINES else None
    if value is None:
        raise UsageError(
            f"OpenCV {cv2.__version__} has no engine {name}", expected=" or ".join(ENGINES) + " (OpenCV 5)"
        )
    return int(value)


def words(text: str) -> str:
    r"""What an error of OpenCV says, without where in its sources.

    >>> words("OpenCV(5.0.0) /io/net.cpp:46: error: (-2:Unspecified error) in function 'forward'\n> Gemm: no B (expected: 'x'), where\n>  'x' is 0")
    'Gemm: no B (expected x)'
    >>> words("OpenCV(5.0.0) /io/a.cpp:3: error: (-210:Unsupported format) Failed to parse. in function 'parseBuffer'\n")
    'Failed to parse.'
    """
    plain = re.sub(r"OpenCV\([\d.]+\S*\) \S+:\d+: error: \(-?\d+:[^)]*\) ?", "", text)
    plain = re.sub(r"\s*in function '[^']*'", "", plain)
    plain = re.sub(r"\(expected: '([^']*)'\), where", r"(expected \1)", plain)
    lines = [stripped for line in plain.splitlines() if (stripped := line.lstrip("> ").strip())]
    return lines[0] if lines else text.strip()
