"""onnxruntime-web as a runtime: WebAssembly in node or in Chromium, and WebGPU in Chromium."""

from __future__ import annotations

from collections.abc import Mapping

from bnexport.errors import MachineError, UsageError
from bnexport.runtimes.checked_session import read_onnx, signature_of
from bnexport.runtimes.libraries import refuse_unknown_options
from bnexport.runtimes.protocols import About, Artifact, Switch, Want
from bnexport.runtimes.web import package
from bnexport.runtimes.web.session import DEVICES, WebSession

SWITCHES = (Switch("optimized", "off", 'graphOptimizationLevel: "disabled" among the options of the session'),)
"""What is tried where it is wrong with a model, or refuses it."""


class Web:
    """The runtime `web`."""

    def about(self) -> About:
        """The version of the npm package, and the devices whose programs are installed."""
        return self.about_target("", {})

    def about_target(self, device: str, options: Mapping[str, str]) -> About:
        """The same with the package that an option names, and whether the program of that device is there.

        Raises:
            UsageError: there is no such option, or it does not take that value.
        """
        _refuse_unusable(options)
        node, browser = package.node(), package.browser()
        devices = (*(("node",) if node else ()), *(("chromium", "webgpu") if browser else ()))
        folder = package.find_package(options.get("package", ""))
        version, missing, fix = "", "", ""
        if not devices or (device == "node" and not node):
            missing, fix = "node is not on the PATH", "install Node.js 18 or later"
        elif device in DEVICES and device not in devices:
            missing, fix = "neither chromium nor google-chrome is on the PATH", "install one of them"
        elif folder is None:
            where = options.get("package") or "./node_modules, in NODE_PATH or among npm's global packages"
            missing, fix = f"the npm package {package.NAME} is not in {where}", package.INSTALL
        else:
            try:
                version = package.version(folder)
            except MachineError as error:
                missing, fix = str(error), package.INSTALL
        return About(version, missing, fix, devices or tuple(DEVICES), isolated=True, switches=SWITCHES)

    def open(self, artifact: Artifact, want: Want) -> WebSession:
        """An ONNX model in a process of node or Chromium, which ends with the session."""
        about = self.about_target(want.device, want.options)
        folder = package.find_package(want.options.get("package", ""))
        if about.unavailable or folder is None:
            raise MachineError(f"{package.NAME} does not run on this machine", found=about.unavailable, fix=about.fix)
        if want.device not in DEVICES:
            raise MachineError(f"{package.NAME} is not run on {want.device}", expected=" or ".join(DEVICES))
        signature = signature_of(read_onnx(artifact, package.NAME))
        return WebSession(artifact.content, signature, want.device, folder, want.options)


def _refuse_unusable(options: Mapping[str, str]) -> None:
    """Makes sure that the options are those of this runtime.

    Raises:
        UsageError: they are not.
    """
    refuse_unknown_options("web", options, ("threads", "optimized", "package"))
    threads, optimized = options.get("threads", "1"), options.get("optimized", "on")
    if not (threads.isdecimal() and int(threads) > 0):
        raise UsageError("the option threads of the runtime web is invalid", found=threads, expected="1 or more")
    if optimized not in ("on", "off"):
        raise UsageError("the option optimized of the runtime web is invalid", found=optimized, expected="on or off")
