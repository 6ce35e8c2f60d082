"""Files that are not ONNX graphs as runs of a check: known by what they take and give, and for .tflite by their tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bnexport.comparison.port_matching import FLOAT32, match_ports
from bnexport.comparison.sides import Runner
from bnexport.comparison.targets import ONNX, as_target
from bnexport.errors import InputError, MachineError, UsageError
from bnexport.frameworks.keras.tflite import convert_to_tflite, converter_version
from bnexport.frameworks.registry import recognise
from bnexport.progress import Progress
from bnexport.results.runs import Precision, RunSpec
from bnexport.runtimes.protocols import Artifact
from bnexport.runtimes.tflite_file import read_tflite, with_outputs
from bnexport.runtimes.tflite_precision import tflite_precision

if TYPE_CHECKING:
    from bnexport.comparison.interface import Interface
    from bnexport.comparison.reference import Reference
    from bnexport.comparison.subject import Subject
    from bnexport.comparison.targets import Target
    from bnexport.onnx_graph.quantised import Quantised
    from bnexport.results.preprocessing import Preprocessing

TFLITE = "tflite"


@dataclass(frozen=True, slots=True)
class OtherArtifact:
    """A file that is not ONNX.

    Args:
        artifact: the file, which gives out everything that is compared.
        external: whether another exporter made it.
        precision: what it is stored in.
        quantised: how it is quantised; None where it is not.
        logits: for each of its outputs that ends in softmax or sigmoid the tensor before that.
    """

    artifact: Artifact
    external: bool
    precision: Precision = Precision.FLOAT32
    quantised: Quantised | None = None
    logits: Mapping[str, str] = field(default_factory=dict)


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
    )


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


def refuse_unreadable(targets: Sequence[Target], model: Path, deployed: Path | None) -> None:
    """Makes sure that there is a file for each target.

    Args:
        targets: the runtimes.
        model: what is checked.
        deployed: the deployed file, which is ONNX; None where there is none.

    Raises:
        UsageError: a target executes other files than those that there are.
        MachineError: TensorFlow is not installed, which would convert the model.
    """
    for target in targets:
        if ONNX in target.about.formats:
            continue
        kinds = " or ".join(f".{name}" for name in target.about.formats)
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


@dataclass(frozen=True, slots=True)
class ArtifactRun:
    """A file that a target has opened.

    Args:
        runner: the run.
        interface: how it is called.
    """

    runner: Runner
    interface: Interface


def artifact_run(
    other: OtherArtifact, target: Target, subject: Subject, spec: Preprocessing | None, *, as_deployed: bool = False
) -> ArtifactRun:
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
    called = interface.outputs
    names = dict(called) | {f"{ours}/logits": other.logits[its] for ours, its in called.items() if its in other.logits}
    names |= {f"{name} (extra)": name for name in outputs if name not in called.values()}
    dtypes = {name: subject.dtypes.get(name.removesuffix("/logits"), FLOAT32) for name in names}
    rows = {name: rows for name, rows in subject.heads(()).rows.items() if rows.certain}
    over = interface.calling(names, dtypes, rows, title)
    runner = Runner(
        artifact_spec(other, target, as_deployed=as_deployed),
        over(opened.run),
        names=names,
        given=interface.given,
        quantised=other.quantised,
        over=over,
    )
    return ArtifactRun(as_target(runner, target, opened), interface)
