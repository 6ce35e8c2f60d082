"""onnxruntime-web as a runtime: WebAssembly in node or in Chromium, and WebGPU in Chromium."""

from __future__ import annotations

from collections.abc import Mapping

from bnexport.errors import InputError, MachineError, UsageError, reason
from bnexport.onnx_graph import tensors
from bnexport.runtimes.protocols import About, Artifact, Signature, Want
from bnexport.runtimes.web import package
from bnexport.runtimes.web.session import DEVICES, WebSession


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
        return About(version, missing, fix, devices or tuple(DEVICES), isolated=True)

    def open(self, artifact: Artifact, want: Want) -> WebSession:
        """An ONNX model in a process of node or Chromium, which ends with the session."""
        import onnx

        about = self.about_target(want.device, want.options)
        folder = package.find_package(want.options.get("package", ""))
        if about.unavailable or folder is None:
            raise MachineError(f"{package.NAME} does not run on this machine", found=about.unavailable, fix=about.fix)
        if want.device not in DEVICES:
            raise MachineError(f"{package.NAME} is not run on {want.device}", expected=" or ".join(DEVICES))
        try:
            if artifact.format != "onnx":
                raise ValueError(f"it is {artifact.format}")
            model = onnx.ModelProto.FromString(artifact.content)
        except Exception as error:  # protobuf raises errors of many classes
            raise InputError(f"{artifact.name} is not a valid ONNX model ({reason(error)})") from error
        signature = Signature(tensors.ports(tensors.inputs(model)), tensors.ports(model.graph.output))
        return WebSession(artifact.content, signature, want.device, folder, want.options)


def _refuse_unusable(options: Mapping[str, str]) -> None:
    """Makes sure that the options are those of this runtime.

    Raises:
        UsageError: they are not.
    """
    for name, value in options.items():
        if name == "threads":
            usable, expected = value.isdecimal() and int(value) > 0, "a number of threads, 1 or more"
        elif name == "optimized":
            usable, expected = value in ("on", "off"), "on or off"
        else:
            usable, expected = name == "package", ""
        if expected and not usable:
            raise UsageError(f"the option {name} of the runtime web is invalid", found=value, expected=expected)
        if not usable:
            raise UsageError(
                f"the runtime web has no option {name}", expected="threads, optimized or package, or timeout, memory"
            )
