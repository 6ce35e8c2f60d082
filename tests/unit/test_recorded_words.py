"""What is said of another program's preprocessing: only what all ways that fit have in common."""

from __future__ import annotations

from dataclasses import replace

from bnexport.results.identified import Identified, Steps
from bnexport.results.verdict import Finding
from bnexport.rules.recorded import Inputs, prepared_differently

OWN = Steps(fit="stretched", kernel="Pillow LANCZOS", order="RGB", scaling="none")
LINEAR = Steps(fit="stretched", kernel="OpenCV INTER_LINEAR", order="BGR", scaling="x / 255")


def finding(*ways: Steps, values: bool) -> Finding:
    """Of ways that fit alike."""
    way = Identified(
        ways[0], named=True, exact=True, residual=0.0, largest=0.0, alternatives=ways[1:], values=values, tried=100
    )
    inputs = None if values else Inputs({"x": 1.0}, {})
    return prepared_differently("recorded-inference", inputs, way, OWN, (), runtime_right=None)


def advice(found: Finding) -> list[str]:
    return [action.reason for action in found.actions]


def test_a_single_way_is_named_with_each_change() -> None:
    """From what it is to what the bundle has."""
    only = finding(LINEAR, values=False)
    assert "prepares the images so: stretched, OpenCV INTER_LINEAR, BGR, x / 255 (fits exactly" in only.message
    assert "the bundle has resize kernel Pillow LANCZOS, channel order RGB, scaling none" in only.message
    assert "change the channel order of that program from BGR to RGB" in advice(only)


def test_what_ways_do_not_share_is_not_claimed() -> None:
    """Two kernels and the bundle's own size among others: the kernel is changed from nothing, the size not at all."""
    ways = [LINEAR, replace(LINEAR, kernel="torch bilinear"), replace(LINEAR, fit="padded, then resized")]
    several = finding(*ways, values=False)
    assert "so: BGR, x / 255 (fits exactly" in several.message
    assert 'size "stretched", "padded, then resized"' in several.message
    assert 'resize kernel "OpenCV INTER_LINEAR", "torch bilinear"' in several.message
    assert "change the resize kernel of that program to Pillow LANCZOS" in advice(several)
    assert not [text for text in advice(several) if "size of that" in text]


def test_outputs_that_many_ways_give_name_none() -> None:
    """A saturated softmax: several steps are open at once, so that combinations which were not tried would do, too."""
    ways = [LINEAR, replace(LINEAR, scaling="x / 256"), replace(LINEAR, order="RGB")]
    many = finding(*ways, values=True)
    assert "3 of 100 ways" in many.message
    assert "channel order and scaling: the outputs do not tell which" in many.message
    assert "so:" not in many.message
    assert advice(many) == ["record the inputs that the program gives to its runtime, too"]
    one_open = finding(LINEAR, replace(LINEAR, scaling="x / 256"), values=True)
    assert "so: stretched, OpenCV INTER_LINEAR, BGR (" in one_open.message
