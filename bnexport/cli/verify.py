"""`bnexport verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli.bundle_options import MatrixOptions, SignatureOptions
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.isolation import Isolation
from bnexport.cli.output_options import CheckOutput
from bnexport.cli.records import Chosen, with_options
from bnexport.comparison.options import CheckOptions
from bnexport.results.options import DATA

VERIFIED = ("targets", "python", "require", "rtol", "atol", "strict_placement", "gpu_memory_limit")
"""Options of a check that a verification has."""


@with_exit_code
@with_options
def command(
    folder: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder written by bnexport pack.")],
    how: Annotated[CheckOptions, Chosen(VERIFIED)],
    recorded: Annotated[
        Path | None,
        typer.Option(
            "--recorded",
            metavar="DIR",
            rich_help_panel=DATA,
            help="Also compare the outputs, and the inputs where there are any, that another program wrote to this folder: "
            ".npy, .npz, .pb, .csv, or .bin with a .json header. Where its inputs differ, the report says how that program "
            "really preprocessed the images.",
        ),
    ] = None,
    *,
    matrix: MatrixOptions,
    signature: SignatureOptions,
    output: CheckOutput,
    isolation: Isolation,
) -> int:
    """Run a bundle on this machine and compare with Keras.

    The bundle holds the outputs that Keras computed, so TensorFlow is not needed. The hashes in a bundle detect
    corruption, but not changes by someone who can rewrite the bundle; --require-signature detects those.
    """
    if isolation.wanted:
        return isolation.run()
    from bnexport.bundles.opening import read_releases, settle_targets, start_opening
    from bnexport.bundles.verify import compare_with_bundle
    from bnexport.cli import report_output

    report_output.check_writable(output.reports)
    releases = read_releases(matrix.releases, every=matrix.every)
    how, required = settle_targets(how, releases), signature.read()
    with start_opening(folder, how, required) as being_opened, output.show_progress() as progress:
        report_output.import_early(output.form)
        result = compare_with_bundle(being_opened, how, progress, recorded, releases)
    report_output.print_check(result, output.form, verbose=output.verbose)
    report_output.write_reports(result, output.reports)
    return 0 if result else 1
