"""What the text of a target means: a runtime, a device and options, or a program."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from bnexport.errors import UsageError
from bnexport.results.runs import PROVIDERS
from bnexport.system.suggestions import suggest


def parse_targets(texts: Sequence[str]) -> list[str]:
    """The targets that are named, also as `--provider` named them: "auto", "cpu" or "cuda".

    >>> parse_targets(["onnxruntime:cpu", "onnx-reference", "auto", "cuda"])
    ['onnxruntime:cpu', 'onnx-reference', 'onnxruntime', 'onnxruntime:cuda']
    """
    former = {"auto": "onnxruntime", "cpu": "onnxruntime:cpu", "cuda": "onnxruntime:cuda"}
    return [former.get(text, text.removesuffix(":auto")) for text in texts]


def split_targets(targets: Sequence[str]) -> tuple[list[str], list[str]]:
    """The providers of onnxruntime among some targets, and the other targets.

    >>> split_targets(["onnxruntime:cuda", "onnx-reference", "onnxruntime", "onnxruntime:xnnpack"])
    (['cuda', 'auto'], ['onnx-reference', 'onnxruntime-provider:xnnpack'])

    Raises:
        UsageError: the CPU or CUDA is given options.
    """
    providers, others = [], []
    for target in targets:
        name, _, device = target.partition(":")
        if name != "onnxruntime":
            others.append(target)
        elif device in ("", "cpu", "cuda"):
            providers.append(device or "auto")
        elif device.partition(":")[0] in ("cpu", "cuda"):
            raise UsageError(f"the target {target} takes no options", fix=f"omit {device.partition(':')[2]}")
        else:
            others.append(f"{PROVIDERS}:{device}")
    return providers, others


@dataclass(frozen=True, slots=True)
class TargetParts:
    """What the text of a target says.

    Args:
        name: of the runtime.
        device: where it runs; "" where there is none.
        options: by name.
    """

    name: str
    device: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


def split_target(text: str) -> TargetParts:
    """The runtime, the device and the options in NAME[:DEVICE][:OPTION=VALUE ...].

    A value may hold colons, as paths and addresses do: an option begins where a colon is followed by NAME=.
    After "command:" and its options follows a command line, to the end; its program, or its option name, is the device.

    >>> split_target("openvino:cpu:threads=1:python=C:/python.exe")
    TargetParts(name='openvino', device='cpu', options={'threads': '1', 'python': 'C:/python.exe'})
    >>> split_target("openvino:threads=1").device
    ''
    >>> split_target("http://localhost:8000/v2/models/net:timeout=9").device
    'http://localhost:8000/v2/models/net'
    >>> split_target("command:format=pb:timeout=9:ssh board ./infer {inputs} {outputs}").options["program"]
    'ssh board ./infer {inputs} {outputs}'

    Raises:
        UsageError: an option has no value.
    """
    if text.startswith(COMMAND):
        return _split_command(text)
    name, *rest = re.split(r":(?=[A-Za-z_][\w-]*=)", text)
    name, _, device = (SERVER, "", name) if _ADDRESS.match(name) else name.partition(":")
    options = dict(part.split("=", 1) for part in rest)
    if not name or (":" in device and name != SERVER) or "" in options.values():
        raise UsageError(f"cannot read the target {text}", expected="RUNTIME[:DEVICE][:OPTION=VALUE ...]")
    return TargetParts(name, device, options)


COMMAND = "command:"
"""How the target begins that is a program."""

SERVER = "server"
"""The runtime of targets that are addresses."""

_ADDRESS = re.compile(r"(?:https?|grpcs?):", re.IGNORECASE)

_LEADING = re.compile(r"([a-z]+)=([^:\s]+):")


def _split_command(text: str) -> TargetParts:
    """The options and the command line of a target that is a program."""
    options, rest = {}, text.removeprefix(COMMAND).strip()
    while option := _LEADING.match(rest):
        options[option[1]] = option[2]
        rest = rest[option.end() :]
    try:
        parts = shlex.split(rest)
    except ValueError:
        parts = rest.split()  # the runtime says what is wrong with it
    name = options.pop("name", "") or PurePath(parts[0] if parts else "").name
    if not name:
        raise UsageError(
            f"cannot read the target {text}", expected="command:[OPTION=VALUE:]PROGRAM {model} {inputs} {outputs}"
        )
    return TargetParts("command", name, {**options, "program": rest})


def refusal_in_file(text: str) -> str:
    """Why a settings file, which may come with the model that is checked, must not name a target; "" where it may.

    >>> refusal_in_file("command:./infer {inputs} {outputs}"), refusal_in_file("openvino:threads=1")
    ('it starts a program', '')
    """
    if text.lstrip().startswith(COMMAND) or re.search(r":(python|package)=", text):
        return "it starts a program"
    sends = _ADDRESS.match(text.lstrip()) or text.strip().startswith(SERVER)
    return "it sends data to another machine" if sends else ""


def parse_providers(texts: Sequence[str]) -> list[str]:
    """The execution providers of onnxruntime for targets: "auto", "cpu" or "cuda".

    Raises:
        UsageError: a text is not a target of onnxruntime.

    >>> parse_providers(["onnxruntime", "onnxruntime:cuda", "cpu"])
    ['auto', 'cuda', 'cpu']
    """
    return [_device(text, "--target", ("auto", "cpu", "cuda")) for text in texts]


def parse_required_targets(texts: Sequence[str]) -> list[str]:
    """What is required: "cpu" or "cuda" for the providers of onnxruntime, other targets as they are written.

    Raises:
        UsageError: a text names onnxruntime without a device.

    >>> parse_required_targets(["onnxruntime:cuda", "cpu", "openvino:threads=1", "onnxruntime:xnnpack"])
    ['cuda', 'cpu', 'openvino:threads=1', 'onnxruntime-provider:xnnpack']
    """
    required: list[str] = []
    for text in texts:
        if text.partition(":")[0] in ("onnxruntime", "cpu", "cuda", "auto"):
            providers, others = split_targets([text]) if text not in ("cpu", "cuda", "auto") else ([text], [])
            required += [_device(text, "--require-target", ("cpu", "cuda"))] if providers else others
        else:
            required.append(text)
    return required


def required_plugins(required: Sequence[str]) -> list[str]:
    """The targets among what is required that are no providers of onnxruntime.

    >>> required_plugins(["cuda", "openvino"])
    ['openvino']
    """
    return [text for text in required if text not in ("cpu", "cuda")]


def _device(text: str, option: str, devices: Sequence[str]) -> str:
    runtime, _, device = text.rpartition(":")
    if text == "onnxruntime":
        device = "auto"
    if runtime not in ("", "onnxruntime") or device not in devices:
        names = ["onnxruntime"] * ("auto" in devices) + [f"onnxruntime:{name}" for name in devices if name != "auto"]
        raise UsageError(f"cannot use {option} {text}", expected=" or ".join(names), fix=suggest(text, names))
    return device
