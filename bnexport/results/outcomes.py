"""What came of a training, a recalibration or a fold: plain records, as in `verdict`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bnexport.results.verdict import Finding, Side


@dataclass(frozen=True, slots=True)
class Epoch:
    """What `fit` reported at the end of one epoch: the mean over its steps, in training mode."""

    number: int
    loss: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Residual:
    """How far the statistics a graph uses are from those of its sites' inputs in inference mode, the largest over all channels.

    Args:
        mean: |mean used - mean measured| / standard deviation measured.
        log_std: |ln(standard deviation used / standard deviation measured)|, epsilon included on both sides.
        site: the site where the larger of the two is largest.
    """

    mean: float
    log_std: float
    site: str

    @property
    def largest(self) -> float:
        """The larger of the two."""
        return max(self.mean, self.log_std)


@dataclass(frozen=True, slots=True)
class Recalibration:
    """What came of it; truthy when a model was written.

    Args:
        images: how many images the statistics were measured on.
        stages: how many stages the graph has.
        sites: how many BatchNormalization nodes got new statistics.
        residual: how far the new statistics are from what the sites' inputs have with them in use.
        scratch_bytes: how much of the live tensors was on disk at most.
        before: the answers with the old statistics.
        after: the answers with the new ones.
        findings: what the images and the old statistics show, most severe first; a BN001 is what this repairs.
        written: the file; None where the change was refused.
        refused: why, "" where it was not.
        folded: how many nodes were folded afterwards.
    """

    images: int
    stages: int
    sites: int
    residual: Residual
    scratch_bytes: int
    before: Side
    after: Side
    findings: tuple[Finding, ...]
    written: Path | None
    refused: str
    folded: int = 0

    def __bool__(self) -> bool:
        return self.written is not None


@dataclass(frozen=True, slots=True)
class Folding:
    """What came of a fold; truthy when a file was written.

    Args:
        folded: for each node that is gone its name, the node that took it in, and how: "after", "before" or "merged".
        refused: for each normalisation that stays (`bnexport.folding.refusals`) the name of its first node and the reason.
        max_rel: how far the folded graph's outputs and logits are from the original's, relative to their size.
        tolerance: the largest distance that is float rounding.
        written: the file; None where the distance is larger.
    """

    folded: tuple[tuple[str, str, str], ...]
    refused: tuple[tuple[str, str], ...]
    max_rel: float
    tolerance: float
    written: Path | None

    def __bool__(self) -> bool:
        return self.written is not None
