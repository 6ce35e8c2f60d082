"""Files that are not ONNX graphs as runs of a check: known by what they take and give, and for .tflite by their tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bnexport.comparison.interface import Interface, OpenFile
from bnexport.comparison.port_matching import FLOAT32, match_ports
from bnexport.comparison.sides import Feeds, Outputs, Runner
from bnexport.comparison.targets import ONNX, as_target
from bnexport.errors import InputError, MachineError, UsageError
from bnexport.frameworks.keras.tflite import convert_to_tflite, converter_version
from bnexport.frameworks.registry import recognise
from bnexport.progress import Progress
from bnexport.results.runs import Precision, RunSpec
from bnexport.runtimes.ir_precision import ir_precision
from bnexport.runtimes.protocols import Artifact, open_runtime
from bnexport.runtimes.tflite_file import TfliteFile, read_tflite, with_outputs
from bnexport.runtimes.tflite_precision import tflite_precision
from bnexport.runtimes.tflite_weights import read_kernels
from bnexport.system.files import open_regular
from bnexport.types import Array

if TYPE_CHECKING:
    from bnexport.comparison.reference import Reference
    from bnexport.comparison.subject import Subject
    from bnexport.comparison.targets import Target
    from bnexport.onnx_graph.quantised import Quantised
    from bnexport.results.preprocessing import Preprocessing

TFLITE, OPENVINO_IR = "tflite", "openvino-ir"
"""The formats that are not ONNX."""

_SUFFIXES = {OPENVINO_IR: ".xml"}


@dataclass(frozen=True, slots=True)
class OtherArtifact:
    """A file that is not ONNX.

    Args:
        artifact: the file, which gives out everything that is compared.
        external: whether another exporter made it.
        precision: what it is stored in.
        quantised: how it is quantised; None where it is not.
        logits: for each of its outputs that ends in softmax or sigmoid the tensor before that.
        notes: how its inputs and outputs are quantised, in words.
        inner: its tensors of floating point numbers, in the order in which they are made.
        kernels: reads its kernels by their tensors, in the layout of Keras.
    """

    artifact: Artifact
    external: bool
    precision: Precision = Precision.FLOAT32
    quantised: Quantised | None = None
    logits: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    kernels: Callable[[], Mapping[str, Array]] = dict


class ConversionError(InputError):
    """A converter refuses a model.

    Args:
        why: what it says.
        operators: those that it names.
    """

    def __init__(self, why: str, operators: tuple[str, ...]) -> None:
        super().__init__(why)
        self.operators = operators


def tflite_artifact(content: bytes, title: str, *, external: bool) -> OtherArtifact:
    """A .tflite file, with the logits among its outputs.

    Raises:
        InputError: it is not a valid one.
    """
    file = read_tflite(content, title)
    before = file.before_squashing()
    precision, quantised = tflite_precision(file)
    return OtherArtifact(
        Artifact(TFLITE, with_outputs(content, list(before.values())), title),
        external,
        precision,
        quantised,
        {name: file.tensors[at].name for name, at in before.items()},
        tuple(_quantised_ports(file)),
        tuple(file.tensors[at].name for o in file.operators for at in o.outputs if file.tensors[at].dtype.kind == "f"),
        lambda: read_kernels(content, title),
    )


def _quantised_ports(file: TfliteFile) -> Iterator[str]:
    """How inputs and outputs are quantised, in words."""
    ways = ("input", file.inputs, "values are quantised for it"), ("output", file.outputs, "its values are dequantised")
    for noun, ports, how in ways:
        for name, at in ports.items():
            tensor = file.tensors[at]
            if tensor.scale:
                yield f"the {noun} {name} is {tensor.type} (scale {tensor.scale:.6g}, zero point {tensor.zero_point}): {how}"


def convert_reference(reference: Reference, progress: Progress) -> OtherArtifact:
    """The .tflite file that TensorFlow's converter makes of a Keras model with its defaults.

    Raises:
        ConversionError: the converter refuses the model.
        MachineError: TensorFlow is not installed.
        EndedError: the converter crashes, or takes too long.
    """
    key = ("tflite", reference.sha256, reference.want.architecture, str(reference.want.trust))
    content = reference.store.get(*key)
    if content is None:
        progress.stage("converting the model to .tflite")
        conversion = convert_to_tflite(reference.path, reference.want)
        if conversion.refused:
            why = f"TFLiteConverter of TensorFlow {converter_version()} refuses the model: {conversion.refused}"
            raise ConversionError(why, conversion.operators)
        content = conversion.content
        reference.store.put(content, *key)
    return tflite_artifact(content, f"{reference.path} as .tflite", external=False)


READERS = {TFLITE: "litert", OPENVINO_IR: "openvino"}
"""The target that runs a file of each format where none is named."""


def open_other(path: Path, kind: str) -> OtherArtifact:
    """A deployed file that is not ONNX.

    Args:
        path: the file; the weights of an OpenVINO IR are in the .bin file beside it.
        kind: its format.

    Raises:
        InputError: it is not a valid one, or its weights are missing.
    """
    if kind == TFLITE:
        return tflite_artifact(_content(path), str(path), external=True)
    content = _content(path)
    precision, quantised = ir_precision(content)
    weights = {".bin": _content(path.with_suffix(".bin"))}
    return OtherArtifact(
        Artifact(kind, content, str(path), weights), external=True, precision=precision, quantised=quantised
    )


def _content(path: Path) -> bytes:
    try:
        with open_regular(path) as stream:
            return stream.read()
    except FileNotFoundError as error:
        raise InputError(
            f"the file {path} does not exist", fix="an OpenVINO IR has its weights in this file"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})") from error


def with_reader(names: Sequence[str], kind: str) -> list[str]:
    """Targets, and where none is named that executes files of a format, the usual one for it."""
    named = {name.partition(":")[0] for name in names}
    reads = any(kind in open_runtime(name).about().formats for name in sorted(named)) if kind else True
    return [*names] if reads else [*names, READERS[kind]]


def refuse_onnxruntime(other: OtherArtifact, providers: Sequence[str], require: Sequence[str]) -> None:
    """Makes sure that onnxruntime was not asked for by name.

    Raises:
        UsageError: it was, and it executes ONNX files only.
    """
    if {"cpu", "cuda"} & {*require} or list(providers) != ["auto"]:
        raise UsageError(
            "the target onnxruntime executes .onnx files",
            found=other.artifact.name,
            fix="check the export in a run of its own, without --deployed",
        )


def refuse_unreadable(
    targets: Sequence[Target], model: Path, deployed: Path | None, other: OtherArtifact | None = None
) -> None:
    """Makes sure that there is a file for each target.

    Args:
        targets: the runtimes.
        model: what is checked.
        deployed: the deployed ONNX file; None where there is none.
        other: the deployed file that is not ONNX; None where there is none.

    Raises:
        UsageError: a target executes other files than those that there are.
        MachineError: TensorFlow is not installed, which would convert the model.
    """
    for target in targets:
        wanted = other.artifact.format if other is not None else ONNX
        if wanted in target.about.formats:
            continue
        kinds = " or ".join(_SUFFIXES.get(name, f".{name}") for name in target.about.formats)
        if other is not None:
            raise UsageError(f"the target {target.name} executes {kinds} files", found=other.artifact.name)
        if TFLITE not in target.about.formats or deployed is not None or recognise(model).name != "keras":
            raise UsageError(
                f"the target {target.name} executes {kinds} files",
                found=str(deployed or model),
                expected=f"a Keras file, which is converted, or a {kinds} file as --deployed",
            )
        if not converter_version():
            raise MachineError(
                f"the target {target.name} requires TensorFlow, which converts the Keras model to .tflite",
                fix="install it with: pip install 'bnexport[keras]', or pass a .tflite file as --deployed",
            )


def artifact_spec(other: OtherArtifact, target: Target, *, as_deployed: bool) -> RunSpec:
    """What a file is as a run on a target."""
    return RunSpec(
        target.name,
        "inference",
        target.device,
        precision=other.precision,
        artifact=other.artifact.format,
        external=other.external,
        as_deployed=as_deployed,
        options=target.settings,
        setting=target.about.setting,
    )


def artifact_run(
    other: OtherArtifact, target: Target, subject: Subject, spec: Preprocessing | None, *, as_deployed: bool = False
) -> Runner:
    """A file on a target.

    Args:
        other: the file.
        target: the runtime.
        subject: the model that it is compared with.
        spec: how images are prepared for the model; None for arrays.
        as_deployed: with the defaults of the runtime.

    Raises:
        InputError: the runtime refuses the file, or it takes something else than the model.
        EndedError: the process of the runtime ends.
    """
    opened = target.open(other.artifact, as_deployed=as_deployed)
    title, ports, added = other.artifact.name, opened.signature, frozenset(other.logits.values())
    outputs = {port.name: port.shape for port in ports.outputs if port.name not in added}
    interface = match_ports(
        title,
        {port.name: port.shape for port in ports.inputs},
        outputs,
        {port.name: port.dtype for port in (*ports.inputs, *ports.outputs)},
        subject,
        spec,
    )
    differences = interface.differences if other.external else _of_conversion(interface, subject)
    interface = replace(interface, differences=(*differences, *other.notes))
    called = interface.outputs
    names = dict(called) | {f"{ours}/logits": other.logits[its] for ours, its in called.items() if its in other.logits}
    names |= {f"{name} (extra)": name for name in outputs if name not in called.values()}
    dtypes = {name: subject.dtypes.get(name.removesuffix("/logits"), FLOAT32) for name in names}
    rows = {name: rows for name, rows in subject.heads(()).rows.items() if rows.certain}
    over = interface.calling(names, dtypes, rows, title)

    def compute_inner(feeds: Feeds, wanted: Sequence[str]) -> Outputs:
        return interface.calling({name: name for name in wanted}, {}, {}, title)(opened.run)(feeds)

    runner = Runner(
        artifact_spec(other, target, as_deployed=as_deployed),
        over(opened.run),
        names=names,
        given=interface.given,
        quantised=other.quantised,
        over=over,
        file=OpenFile(interface, other.inner if target.about.shows_tensors else (), compute_inner, other.kernels),
    )
    return as_target(runner, target, opened)


def _of_conversion(interface: Interface, subject: Subject) -> tuple[str, ...]:
    """How a file that bnexport had converted is called otherwise than the model, beyond its names."""
    if interface.batch is None or any(shape and shape[0] is not None for shape in subject.shapes.values()):
        return ()
    return (
        f"TFLiteConverter does not convert the model with an open batch axis: the file takes {interface.batch} at a time",
    )
