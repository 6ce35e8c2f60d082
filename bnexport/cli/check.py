"""`bnexport check`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnexport.cli import options
from bnexport.cli.guard import guarded
from bnexport.cli.options import OutputFormat, Provider
from bnexport.cli.progress import shown

if TYPE_CHECKING:
    from bnexport.numerics.verdict import CheckReport


@guarded
def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model: .h5, .hdf5, .keras or .onnx.")],
    images: Annotated[
        Path | None,
        typer.Argument(
            metavar="IMAGES",
            help="A folder of images (flat, one subfolder for each class, or with a labels.csv), one image, or - for a list of paths on standard input.",
        ),
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(
            "--inputs",
            metavar="FILE.npz",
            help="Arrays in place of images, one for each input of the model; `labels` may be among them.",
        ),
    ] = None,
    provider: options.Providers = [Provider.AUTO],  # noqa: B006 - typer reads the default, nobody writes to it
    require: options.Require = [],  # noqa: B006 - as above
    batch_size: options.BatchSize = 32,
    labels: options.Labels = None,
    size: options.Size = None,
    channels: options.Channels = None,
    resize: options.ResizeKernel = None,
    scaling: options.ScalingKind = None,
    fit: options.FitKind = None,
    channel_order: options.ChannelOrder = None,
    mean: options.Mean = None,
    std: options.Std = None,
    onnx: Annotated[
        Path | None,
        typer.Option(
            "--onnx",
            metavar="FILE",
            help="The ONNX file that is really deployed, whoever exported it: hold it against the Keras model in place of a fresh export.",
        ),
    ] = None,
    rtol: Annotated[
        list[str],
        typer.Option(
            metavar="[TENSOR=]X",
            help="The largest error that passes, relative to the tensor's scale, in place of 8 measured noise floors; for one tensor or all; repeatable.",
        ),
    ] = [],  # noqa: B006 - typer reads the default, nobody writes to it
    atol: Annotated[
        list[str],
        typer.Option(
            metavar="[TENSOR=]X", help="The same in the tensor's own unit; an error passes up to the sum of both."
        ),
    ] = [],  # noqa: B006 - as above
    layers: Annotated[
        bool,
        typer.Option(
            "--layers", help="Compare layer by layer also where the outputs agree, and show how the error grows."
        ),
    ] = False,
    trust: options.Trust = False,
    no_cache: options.NoCache = False,
    form: options.Format = OutputFormat.TEXT,
    report: options.Reports = [],  # noqa: B006 - as above
    quiet: options.Quiet = False,
) -> int:
    """Run a model in Keras and onnxruntime, in training and inference mode, and compare."""
    from bnexport.files import writable
    from bnexport.jobs.check import check

    for path in report:
        writable(path, (".json",))
    with shown(quiet=quiet) as progress:
        result = check(
            model,
            _listed_on_stdin() if images == Path("-") else images,
            inputs=inputs,
            labels=labels,
            providers=[p.value for p in provider],
            require=[r.value for r in require],
            batch_size=batch_size,
            overrides=options.overrides(size, channels, resize, scaling, fit, channel_order, mean, std),
            onnx=onnx,
            rtol=options.tolerances(rtol, "--rtol"),
            atol=options.tolerances(atol, "--atol"),
            layers=layers,
            store=options.store(no_cache=no_cache),
            trust=trust,
            progress=progress,
        )
    show(result, form)
    for path in report:
        save(result, path)
    return 0 if result else 1


def _listed_on_stdin() -> list[Path]:
    return [Path(line) for line in sys.stdin.read().splitlines() if line.strip()]


def show(result: CheckReport, form: OutputFormat) -> None:
    """Prints a check on stdout."""
    if form == OutputFormat.JSON:
        from bnexport.report import json

        typer.echo(json.dumps(json.check(result)))
        return
    from rich.console import Console

    from bnexport.report.text import show_check

    console = Console(highlight=False)
    show_check(result, console if console.is_terminal else Console(highlight=False, width=120))


def save(result: CheckReport, path: Path) -> None:
    """Writes a check to a .json file, whole or not at all."""
    from bnexport.files import write_text
    from bnexport.report import json

    write_text(path, json.dumps(json.check(result)) + "\n")
