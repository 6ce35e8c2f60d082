"""The options that only bundles have."""

from __future__ import annotations

from dataclasses import dataclass

from bnexport.results.options import TARGETS, Flag, option


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixOptions:
    """Releases of a runtime that a bundle is run on."""

    releases: str = option(
        Flag(
            name="matrix",
            default="",
            metavar="PACKAGE==RELEASES",
            panel=TARGETS,
            help="Run the bundle on releases of a runtime, each in an environment that uv makes, and find the one in which the "
            "answer changes: onnxruntime==1.20.., ==1.20..1.31, ==1.20.1,1.31.0 or >=1.20,<1.31. The first and the last one "
            "are run, then what is between two that differ; releases that are named one by one are all run. The installed onnxruntime is "
            "run, too, with --target onnxruntime:cpu. Needs uv.",
        )
    )
    every: bool = option(
        Flag(
            name="matrix-all",
            kind=bool,
            default=False,
            panel=TARGETS,
            help="Run every release of --matrix.",
        )
    )
