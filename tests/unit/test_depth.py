"""Where an error begins, on drawn graphs of layers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bnexport.numerics.depth import describe_other_order, distance, first_off, hidden, unknown_inputs
from bnexport.results.verdict import LayerError


def layer(name: str, error: float | None, *inputs: str) -> LayerError:
    """A layer with an error in units of its tolerance; None for one that was not found in the graph."""
    known = error is not None
    return LayerError(name, "Conv2D", inputs, name if known else "", math.nan if error is None else error * 8e-6, 1e-6)


def names(found: LayerError | None) -> str:
    return found.name if found else ""


def test_the_first_layer_off_is_found_through_branches_and_gaps() -> None:
    """Back from the output through whatever is off, past layers that were not found."""
    chain = [layer("a", 0.1), layer("b", 50, "a"), layer("c", None, "b"), layer("d", 40, "c"), layer("e", 30, "d", "a")]
    assert names(first_off(chain)) == "b"


def test_nothing_is_off() -> None:
    """No layer, no culprit."""
    assert first_off([layer("a", 0.5), layer("b", 0.9, "a")]) is None
    assert hidden([layer("a", 0.5)]) is None


def test_a_layer_that_an_exporter_folded_into_the_next_is_no_culprit() -> None:
    """A convolution whose tensor already holds the normalised values looks off, and what follows agrees."""
    fused = [layer("conv", 900), layer("relu", 0.1, "conv"), layer("conv2", 700, "relu"), layer("out", 0.1, "conv2")]
    assert hidden(fused) is None


def test_an_error_that_fades_is_found() -> None:
    """Off, off in what reads it, and lost on the way to the outputs."""
    fading = [layer("a", 0.1), layer("b", 500, "a"), layer("c", 80, "b"), layer("d", 2, "c"), layer("e", 0.1, "d")]
    assert names(hidden(fading)) == "b"


def test_an_error_before_integers_is_found() -> None:
    """ArgMax and Greater change no value for it, and nothing can be folded into them."""
    answer, score = replace(layer("answer", 0.0, "scores"), discrete=True), layer("scaled", 0.0, "scores")
    assert names(hidden([layer("scores", 900), answer])) == "scores"
    assert hidden([layer("scores", 900), answer, score]) is None
    assert hidden([layer("scores", 900)]) is None


def test_an_error_that_is_cut_off_is_found() -> None:
    """Behind ReLU and Clip nothing may be left of it; a layer that has the tensor of the ReLU was fused with it, and one of another kind folded."""
    conv, relu = layer("conv", 900, "x"), replace(layer("relu", 0.1, "conv"), kind="ReLU")
    assert names(hidden([conv, relu])) == "conv"
    assert names(hidden([conv, replace(relu, kind="Clip")])) == "conv"
    assert hidden([replace(conv, tensor="relu"), relu]) is None
    assert hidden([conv, replace(relu, kind="LeakyReLU")]) is None
    assert hidden([conv, relu, layer("sum", 0.1, "conv")]) is None  # reads it, too, and agrees: nothing is lost there
    assert hidden([conv, replace(relu, tensor="")]) is None


def test_layers_that_could_not_be_compared_are_named() -> None:
    """Back to those that were; a Dropout layer computes nothing in inference mode."""
    dropout = replace(layer("dropout", None, "d"), kind="Dropout")
    chain = [layer("a", 0.1), layer("b", None, "a"), layer("c", 0.1), layer("d", None, "b", "c"), dropout]
    last = layer("e", 90, "dropout")
    assert unknown_inputs(last, [*chain, last]) == ("b", "d")
    assert unknown_inputs(layer("f", 90, "c"), chain) == ()


def test_what_is_not_finite_or_of_another_shape_is_off() -> None:
    """NaN is never within a tolerance."""
    broken = LayerError("x", "Conv2D", (), "t", math.nan, 1e-6, "its shape is (1, 2)")
    assert broken.off
    assert not LayerError("x", "Conv2D", (), "", math.nan, 1e-6).off


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 3, 1, 2)])
def test_layouts_are_tried(order: tuple[int, ...]) -> None:
    """Channels may stand first or last; any other permutation is a difference."""
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32)
    assert distance(x.transpose(order), x) == 0
    assert distance(x.transpose(0, 2, 1, 3)[:, :5, :5], x[:, :5, :5]) > 0.1
    assert math.isnan(distance(x.transpose(0, 2, 1, 3), x))


def test_channels_in_another_order_are_told_from_other_values() -> None:
    """Exactly the values, but for rounding, on one axis; one value that is elsewhere, a scaled channel or NaN are something else."""
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 6)).astype(np.float32)
    moved = x[..., [1, 0, 2, 3, 5, 4]]
    words = "on axis 3 it holds the same values in another order: 0 holds 1, 1 holds 0, 4 holds 5, 5 holds 4"
    assert describe_other_order(moved * np.float32(1 + 1e-7), x, 1e-6) == words
    assert describe_other_order(np.moveaxis(moved, -1, 1), x, 1e-6) == words  # channels first
    assert "on axis 2" in describe_other_order(x[:, :, ::-1], x, 1e-6)
    for change in (lambda y: y * 1.01, lambda y: np.where(y == y[0, 0, 0, 0], np.nan, y), lambda y: y.swapaxes(0, 1)):
        assert not describe_other_order(change(moved), x, 1e-6)
    one = moved.copy()
    one[0, 0, 0, :2] = one[0, 0, 0, 1::-1]
    assert not describe_other_order(one, x, 1e-6)
    assert not describe_other_order(x, x, 1e-6)
