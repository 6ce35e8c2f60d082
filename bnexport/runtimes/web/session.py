"""An ONNX model that onnxruntime-web has opened in node or in Chromium."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bnexport.errors import EndedError, InputError, MachineError
from bnexport.runtimes.inputs import cast_input
from bnexport.runtimes.protocols import Session, Signature, Tensors
from bnexport.runtimes.web import package
from bnexport.runtimes.web.exchange import Exchange
from bnexport.runtimes.web.program import Program, start_browser, start_node
from bnexport.types import Array

DEVICES = {"node": "wasm", "chromium": "wasm", "webgpu": "webgpu"}
"""The execution provider of onnxruntime-web on each device."""

LIBRARIES = {"node": "ort.node.min.mjs", "chromium": "ort.wasm.min.mjs", "webgpu": "ort.webgpu.min.mjs"}
"""The file of the package that each device loads, as bundlers choose it; releases before 1.19 do not have them."""

_FLAGS: Mapping[str, Sequence[str]] = {
    "chromium": ("--disable-gpu",),
    "webgpu": (
        *("--enable-unsafe-webgpu", "--enable-features=Vulkan", "--ignore-gpu-blocklist"),
        "--enable-unsafe-swiftshader",
    ),
}
"""How Chromium is started: with a GPU where it has one, otherwise with SwiftShader, which computes on the CPU."""

_SCRIPTS = Path(__file__).parent
_PLACE = re.compile(r"^\S+\.(?:cc|h):\d+ .*? was false\. ")
_WORDLESS = re.compile(r"\d*")


class WebSession(Session):
    """A model in a process of its own.

    Args:
        model: the ONNX model.
        signature: of the model.
        device: one of `DEVICES`.
        folder: of the npm package.
        options: of the runtime.

    Raises:
        InputError: onnxruntime-web refuses the model.
        MachineError: it does not run on this machine.
    """

    def __init__(
        self, model: bytes, signature: Signature, device: str, folder: Path, options: Mapping[str, str]
    ) -> None:
        self.signature = signature
        self._kinds = {port.name: port.dtype.type for port in signature.inputs}
        self._exchange = Exchange({"scripts": _SCRIPTS, "package": folder / "dist"}, self._check)
        self._program: Program | None = None
        try:
            self._program = self._start(device)
            self._load(device, folder, options)
            self._ask({"step": "open"}, rest=model)
        except BaseException:
            self.close()
            raise

    def run(self, inputs: Tensors, outputs: Sequence[str] = ()) -> dict[str, Array]:
        """The tensors named `outputs`, which must be outputs of the model, or all of them."""
        if self._program is None:
            raise InputError("the session is closed", fix="open it again")
        feeds = {name: cast_input(name, value, self._kinds.get(name)) for name, value in inputs.items()}
        names = list(outputs) or [port.name for port in self.signature.outputs]
        return self._ask({"step": "run", "outputs": names}, feeds)

    def close(self) -> None:
        """Ends the process."""
        if self._program is not None:
            self._program.close()
            self._program = None
        self._exchange.close()

    def _start(self, device: str) -> Program:
        program = package.node() if device == "node" else package.browser()
        if program is None:
            raise MachineError(f"the program of the device {device} is not on the PATH")
        if device == "node":
            return start_node(program, _SCRIPTS / "node.mjs", self._exchange.address)
        return start_browser(program, f"{self._exchange.address}/scripts/page.html", _FLAGS[device])

    def _load(self, device: str, folder: Path, options: Mapping[str, str]) -> None:
        """Loads the library, and a model of one operator: what fails here is no fault of the model."""
        here, library = f"{self._exchange.address}/package/", folder / "dist" / LIBRARIES[device]
        asked = {
            "step": "load",
            "library": library.as_uri() if device == "node" else here + library.name,
            "files": "" if device == "node" else here,
            "watched": device == "webgpu",
            "threads": int(options.get("threads", 0)),
            "settings": {
                "executionProviders": [DEVICES[device]],
                "graphOptimizationLevel": "disabled" if options.get("optimized") == "off" else "all",
                "logSeverityLevel": 1 if device == "webgpu" else 3,
            },
        }
        try:
            if not library.is_file():
                raise InputError(f"dist/{library.name} is missing")
            self._ask(asked)
        except (InputError, EndedError) as error:
            if isinstance(error, EndedError) and not (self._program and self._program.failed):
                raise
            words = error.last_line if isinstance(error, EndedError) else str(error)
            raise MachineError(
                f"{package.NAME} {package.version(folder)} in {folder} cannot be loaded on the device {device}",
                found=words,
                fix=f"install it again, 1.19 or later: {package.INSTALL}",
            ) from error

    def _ask(
        self, header: Mapping[str, object], feeds: Mapping[str, Array] | None = None, rest: bytes = b""
    ) -> dict[str, Array]:
        try:
            return self._exchange.ask(header, feeds, rest)[1]
        except InputError as error:
            raise InputError(_own_words(str(error))) from error

    def _check(self) -> None:
        if self._program is not None:
            self._program.check()


def _own_words(text: str) -> str:
    """What onnxruntime-web says, without the numbers and the line of its source in front of it.

    >>> _own_words("Can't create a session. ERROR_CODE: 9, ERROR_MESSAGE: Could not find an implementation for X")
    'Could not find an implementation for X'
    """
    words = _PLACE.sub("", " ".join((text.partition("ERROR_MESSAGE: ")[2] or text).split()))
    return f"onnxruntime-web raises the exception {words}" if _WORDLESS.fullmatch(words) else words
