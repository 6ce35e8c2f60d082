"""New BatchNormalization statistics into a graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bnexport.errors import InputError
from bnexport.numerics.moments import Moments
from bnexport.onnx_graph.sites import Site, sites
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx


def by_initializer(moments: Mapping[str, Moments], model: onnx.ModelProto) -> dict[str, NDArray[np.float64]]:
    """The initializers that `moments` (moments by site name) decides: each site's mean and population variance, float64."""
    values = {}
    for site in sites(model):
        if site.name in moments:
            values[site.mean], values[site.var] = moments[site.name].mean, moments[site.name].var
    return values


def with_statistics(model: onnx.ModelProto, values: Mapping[str, Array]) -> onnx.ModelProto:
    """A copy of the model with new values in the initializers named in `values`, each in its own dtype.

    Raises:
        InputError: a value is not finite, a variance is negative, or the graph has no such initializer.
    """
    import onnx
    from onnx import helper, numpy_helper

    variances = {site.var for site in sites(model)}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    left = dict(values)
    for tensor in copy.graph.initializer:
        value = left.pop(tensor.name, None)
        if value is None:
            continue
        if not np.isfinite(value).all() or (tensor.name in variances and np.less(value, 0).any()):
            raise InputError(
                f"the new value of {tensor.name} is invalid",
                found="values that are not finite, or a negative variance",
            )
        tensor.CopyFrom(
            numpy_helper.from_array(value.astype(helper.tensor_dtype_to_np_dtype(tensor.data_type)), tensor.name)
        )
    if left:
        raise InputError("the graph has no initializer of this name", found=", ".join(sorted(left)))
    return copy


def current(model: onnx.ModelProto) -> dict[str, tuple[Site, NDArray[np.float64], NDArray[np.float64]]]:
    """Each site with the mean and variance that it holds now, float64, shape (C,)."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}

    def value(name: str) -> NDArray[np.float64]:
        return np.asarray(numpy_helper.to_array(stored[name]), np.float64)

    return {site.name: (site, value(site.mean), value(site.var)) for site in sites(model)}
