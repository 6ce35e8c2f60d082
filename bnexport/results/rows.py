"""How many rows two runs select, and how many have no partner on the other side."""

from __future__ import annotations

from dataclasses import dataclass

FEW = 0.05
"""So small a share of the rows without a partner may be rounding where nothing shows it."""

HALF = 0.5
"""So large a share may be where the tensors that rows are selected from agree: each tie that rounding decides costs a row on both sides."""


@dataclass(slots=True)
class RowCounts:
    """The selected rows of two runs, over all batches.

    Args:
        actual: how many the run has that is judged.
        reference: how many the other one has.
        matched: how many are partners.
        batches: how many batches have rows without a partner.
        reselected: in how many of them the selection of the reference was run on what the judged run computed.
        unexplained: how many rows it chooses there and the run does not, or the other way round.
    """

    actual: int = 0
    reference: int = 0
    matched: int = 0
    batches: int = 0
    reselected: int = 0
    unexplained: int = 0

    def add(self, actual: int, reference: int, matched: int, unexplained: int | None) -> None:
        """One more batch; `unexplained` is None where the selection was not run again."""
        self.actual += actual
        self.reference += reference
        self.matched += matched
        self.batches += actual + reference > 2 * matched
        if unexplained is not None:
            self.reselected += 1
            self.unexplained += unexplained

    @property
    def unmatched(self) -> int:
        """How many rows have no partner, on both sides together."""
        return self.actual + self.reference - 2 * self.matched

    @property
    def explained(self) -> bool:
        """Whether the selection of the reference chooses the same rows from what the judged run computed."""
        return self.reselected == self.batches and self._is_share(self.unexplained, FEW)

    def problem(self, agree: bool | None, actual: str) -> str:
        """Why rows without a partner are no rounding, in words; "" where they may be.

        Args:
            agree: whether the tensors that rows are selected from agree; None where they could not be compared.
            actual: the run that is judged.
        """
        if not self.unmatched:
            return ""
        rows = f"{self.unmatched} of {self.actual + self.reference} rows have no partner"
        if agree is False:
            return f"{rows}, and the tensors that they are selected from differ by more than rounding"
        if self.reselected == self.batches:
            if self.explained and (agree or self._is_share(self.unmatched, FEW)):
                return ""
            if self.explained:
                return (
                    f"{rows}, and the selection of the reference chooses the same from the tensors that {actual} computed, which "
                    "are not those of the reference: they differ by more than rounding, or have another form or order"
                )
            return (
                f"{rows}, and the selection of the reference chooses {self.unexplained} other rows from the tensors that "
                f"{actual} computed: the selection differs, or a kernel that decides ties otherwise"
            )
        if self._is_share(self.unmatched, FEW if agree is None else HALF):
            return ""
        if agree is None:
            return (
                f"{rows}, and the tensors that they are selected from could not be compared: these differ, or the selection, "
                "or what is computed of the selected rows"
            )
        return (
            f"{rows}, while the tensors that they are selected from agree: the selection differs, or what is computed of the "
            "selected rows, unless rounding decides most of them"
        )

    def _is_share(self, count: int, share: float) -> bool:
        return count <= 1 or count <= share * (self.actual + self.reference)
