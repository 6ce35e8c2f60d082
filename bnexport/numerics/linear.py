"""The algebra of folding an affine map, one scale and shift for each channel, into a linear operator. All in float64.

After the operator (post), y = s * (W x + b) + t, the scale going with the output channels:

    W' = W * s[out];  b' = b * s + t

Before it (pre), y = W (s * x + t) + b, the scale going with the input channels:

    W' = W * s[in];  b' = b + sum over in, k of W[out, in, k] * t[in]

which is exact for a convolution only where no zero padding is put between the two (or where t is 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear operator with constant weights.

    Args:
        op: "Conv", "ConvTranspose", "Gemm" or "MatMul".
        weight: as the operator stores it.
        bias: broadcastable to the output channels (for Gemm already multiplied by its beta); None for none.
        attributes: the node's.
    """

    op: str
    weight: F64
    bias: F64 | None
    attributes: dict[str, Any]

    @property
    def outputs(self) -> int:
        """The number of output channels."""
        axis = {"Conv": 0, "ConvTranspose": 1}.get(self.op, 0 if self._is_transposed else -1)
        return int(self.weight.shape[axis]) * (self._groups if self.op == "ConvTranspose" else 1)

    @property
    def inputs(self) -> int:
        """The number of input channels."""
        axis = {"Conv": 1, "ConvTranspose": 0}.get(self.op, 1 if self._is_transposed else 0)
        return int(self.weight.shape[axis]) * (self._groups if self.op == "Conv" else 1)

    @property
    def _groups(self) -> int:
        return int(self.attributes.get("group", 1))

    @property
    def _is_transposed(self) -> bool:
        return bool(self.attributes.get("transB", 0))

    @property
    def alpha(self) -> float:
        """What Gemm multiplies the product by."""
        return float(self.attributes.get("alpha", 1.0)) if self.op == "Gemm" else 1.0

    @property
    def pads(self) -> bool:
        """Whether the operator pads its input with zeros, or may do so."""
        if self.op != "Conv":
            return self.op == "ConvTranspose"
        automatic = self.attributes.get("auto_pad", b"NOTSET")
        return automatic not in (b"NOTSET", b"VALID") or any(self.attributes.get("pads", ()))

    def after(self, s: F64, t: F64) -> tuple[F64, F64]:
        """Weight and bias of s * self + t; s and t of shape (outputs,)."""
        match self.op:
            case "Conv":
                weight = self.weight * _column(s, self.weight.ndim)
            case "ConvTranspose":
                # (in, out / g, k...): the outputs of group i belong to the inputs of group i
                parts = self.weight.reshape(self._groups, -1, *self.weight.shape[1:])
                scale = s.reshape(self._groups, 1, self.weight.shape[1], *[1] * (self.weight.ndim - 2))
                weight = (parts * scale).reshape(self.weight.shape)
            case "Gemm" if self._is_transposed:
                weight = self.weight * s[:, None]
            case _:
                weight = self.weight * s
        bias = np.zeros(self.outputs) if self.bias is None else self.bias
        return weight, bias * s + t

    def before(self, s: F64, t: F64) -> tuple[F64, F64]:
        """Weight and bias of self applied to s * x + t; s and t of shape (inputs,)."""
        match self.op:
            case "Conv":
                # (out, in / g, k...): the outputs of group i read the inputs of group i
                parts = self.weight.reshape(self._groups, -1, *self.weight.shape[1:])
                shape = (self._groups, 1, self.weight.shape[1], *[1] * (self.weight.ndim - 2))
                weight = (parts * s.reshape(shape)).reshape(self.weight.shape)
                moved = (parts * t.reshape(shape)).reshape(self.outputs, -1).sum(axis=1)
            case "Gemm" if self._is_transposed:
                weight, moved = self.weight * s, self.weight @ t
            case _:
                weight, moved = self.weight * s[:, None], t @ self.weight
        bias = np.zeros(self.outputs) if self.bias is None else self.bias
        return weight, bias + self.alpha * moved


def _column(s: F64, ndim: int) -> F64:
    return s.reshape(-1, *[1] * (ndim - 1))
