"""The options of a recalibration: one record for the keywords of `bnexport.recalibrate` and the flags of `bnexport recalibrate`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from bnexport.comparison.options import ALLOW_CUSTOM_CODE, ARCHITECTURE, ARRAYS, BATCH_SIZE, LABELS, SIGNATURE
from bnexport.results.option_values import parse_size
from bnexport.results.options import DATA, Flag, option, options_of
from bnexport.results.overrides import Overrides

RECALIBRATION = "Recalibration"
"""The panel that groups the options of the recalibration in the help."""

SAMPLES = 2048
"""How many images are enough: 10^3 to 10^4 (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecalibrationOptions:
    """How new statistics are computed; the fields are the keywords of `bnexport.recalibrate`."""

    inputs: Path | None = option(ARRAYS)
    evaluate: str | None = option(
        Flag(
            name="validation-data",
            metavar="IMAGES",
            panel=DATA,
            help="Compare the model before and after on these images. By default it is compared on the images that the "
            "statistics are computed from.",
        )
    )
    samples: int = option(
        Flag(
            name="samples",
            kind=int,
            default=SAMPLES,
            least=1,
            metavar="N",
            panel=RECALIBRATION,
            help="The largest number of images to use. They are chosen at random.",
        )
    )
    seed: int = option(
        Flag(
            name="seed",
            kind=int,
            default=0,
            metavar="N",
            panel=RECALIBRATION,
            help="The random seed for choosing the images.",
        )
    )
    batch_size: int = option(
        replace(
            BATCH_SIZE, panel=RECALIBRATION, help="The number of images in a batch. The statistics do not depend on it."
        )
    )
    labels: Path | None = option(LABELS)
    overrides: Overrides = options_of(Overrides)
    scratch: Path | None = option(
        Flag(
            name="temp-dir",
            kind=Path,
            metavar="DIR",
            panel=RECALIBRATION,
            help="The folder for tensors that do not fit into memory. By default it is the folder for temporary files.",
        )
    )
    memory: int | None = option(
        Flag(
            name="memory",
            metavar="SIZE",
            panel=RECALIBRATION,
            read=lambda text: parse_size(text, unit=1_000_000, least=0),
            help="The largest amount of memory for tensors that wait for the next stage, for example 500MB or 8GiB. "
            "A plain number is in MB. By default it is half of the free memory.",
        )
    )
    fold: bool = option(
        Flag(
            name="fold",
            kind=bool,
            default=False,
            panel=RECALIBRATION,
            help="Fold the BatchNormalization nodes afterwards. The output must be an ONNX file.",
        )
    )
    force: bool = option(
        Flag(
            name="force",
            kind=bool,
            default=False,
            panel=RECALIBRATION,
            help="Write the model anyway.",
        )
    )
    trust: bool = option(ALLOW_CUSTOM_CODE)
    signature: str = option(SIGNATURE)
    architecture: str = option(ARCHITECTURE)
