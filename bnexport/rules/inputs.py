"""IN003 to IN007: too few images, unreadable ones, ones that were prepared in a way that nobody stated, and ones that are changed to fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bnexport.numerics.variety import FEW, Variety
from bnexport.results.actions import advise
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.verdict import Finding, Severity
from bnexport.rules.actions import option
from bnexport.rules.rule import Rule

WASTED = 0.1
"""IN003 is a warning from this share of copies and images of one colour on."""

FEWEST = 2
"""Fewer different images have no statistics."""

SHOWN = 5
"""How many names of images a message lists."""

IN003 = Rule(
    "IN003",
    "too few different images",
    meaning=(
        "Statistics require different images. Copies and images of one color add nothing, and statistics of "
        "very few images are valid for these images only."
    ),
    measured=(
        "By a hash of every prepared image, and by whether all its pixels are equal. It is an information "
        "below {FEW} different images, or where some images are copies or of one color. It is a warning where "
        "more than {WASTED:share} are, or where fewer than {FEWEST} different images are left. bnexport "
        "recalibrate refuses in the last case."
    ),
    neighbours="IN004: files that could not be read.",
    remedy="Use a few hundred different images that resemble the training images.",
    thresholds={"FEW": FEW, "FEWEST": FEWEST, "WASTED": WASTED},
)


def few(variety: Variety, noun: Noun = IMAGES) -> Finding | None:
    """IN003: too few images, images of one colour, or the same image several times."""
    constant, repeated, reason = variety.constant, variety.repeated, unfit(variety, noun)
    if variety.usable >= FEW and not constant and not repeated:
        return None
    evidence = {"images": variety.images, "usable": variety.usable, "constant": constant, "repeated": repeated}
    if reason:
        message = f"{reason}, so no statistics can be measured"
    elif constant or repeated:
        parts = [
            f"{len(names)} {what} ({', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''})"
            for names, what in ((constant, f"of {noun.uniform}"), (repeated, "copies"))
            if names
        ]
        message = f"of {variety.images} {noun.many} {' and '.join(parts)}: {variety.usable} are usable"
    else:
        message = f"{variety.images} {noun.many} are few: statistics measured on them may not be valid for others"
    wasted = len(constant) + len(repeated)
    severity = Severity.WARNING if reason or wasted > WASTED * variety.images else Severity.INFO
    return IN003.finding(
        severity,
        message,
        evidence,
        (advise(f"use a few hundred different {noun.many} that resemble the training {noun.many}"),),
    )


def unfit(variety: Variety, noun: Noun = IMAGES) -> str:
    """Why images cannot be recalibrated from at all; "" where they can."""
    if variety.usable >= FEWEST:
        return ""
    if variety.images == 1:
        return f"there is only one {noun.one}"
    what = (
        f"has {noun.uniform}"
        if len(variety.constant) == variety.images
        else f"is the same or has {noun.uniform}"
        if variety.constant
        else "is the same"
    )
    return f"every one of the {variety.images} {noun.many} {what}"


IN004 = Rule(
    "IN004",
    "unreadable images",
    meaning="Files that look like images cannot be decoded. They are listed and skipped.",
    measured="Every file is decoded: JPEG, PNG, BMP, GIF, WebP and TIFF, recognised by content.",
    remedy="Replace or remove the files.",
)


def unreadable(files: Sequence[tuple[str, str]], noun: Noun = IMAGES) -> Finding | None:
    """IN004: images that could not be read."""
    if not files:
        return None
    shown = "; ".join(f"{name} ({reason})" for name, reason in files[:3]) + ("; …" if len(files) > 3 else "")
    message = (
        f"{noun.with_count(len(files))} cannot be read and {'was' if len(files) == 1 else 'were'} skipped: {shown}"
    )
    return IN004.finding(
        Severity.WARNING,
        message,
        {"files": [list(entry) for entry in files]},
        (advise("replace or remove these files"),),
    )


IN005 = Rule(
    "IN005",
    "assumed preprocessing",
    meaning=(
        "The preprocessing of the images is not specified, so it had to be assumed. With the wrong scaling, a "
        "good model gives bad results."
    ),
    measured="There is no MODEL.toml beside the model, no metadata in the ONNX file, and no option.",
    remedy="Specify it with --size, --color-mode, --interpolation and --normalize.",
)


def assumed_preprocessing(described: str) -> Finding:
    """IN005: nothing says how the images are to be prepared, so that something had to be assumed."""
    message = f"the preprocessing of the images is not specified; assumed: {described}"
    return IN005.finding(
        Severity.WARNING,
        message,
        {"assumed": described},
        (
            advise(
                (
                    "specify it with ",
                    option("size"),
                    ", ",
                    option("channels"),
                    ", ",
                    option("resize"),
                    " and ",
                    option("scaling"),
                )
            ),
        ),
    )


IN006 = Rule(
    "IN006",
    "this machine preprocesses images differently",
    meaning=(
        "The images in a bundle become other inputs on this machine than on the machine that packed them, "
        "because of another decoder or another version of it. It is an error where the outputs are then "
        "outside the tolerance."
    ),
    measured=(
        "bnexport verify decodes and resizes the packed images and compares the result with the packed "
        "inputs. Both must be identical."
    ),
    neighbours="EX001: the outputs differ for the packed inputs too, so the runtime is the cause.",
    remedy=(
        "Install the versions of pillow and simplejpeg that the bundle lists, or decode as your service does "
        "and pack arrays with --arrays."
    ),
)


def decoding_difference(differing: Mapping[str, float], images: int, *, harmless: bool) -> Finding | None:
    """IN006: pictures that became other inputs than on the machine that packed them, with the largest difference of each; None where there is none.

    Args:
        differing: by the picture's name.
        images: how many there are.
        harmless: whether the outputs are within the tolerance all the same.
    """
    if not differing:
        return None
    worst = max(differing, key=lambda name: differing[name])
    message = (
        f"this machine preprocesses {len(differing)} of {images} images differently than the machine that packed them, "
        f"by up to {differing[worst]:.3g} ({worst})"
    )
    message += "; the outputs still agree" if harmless else "; the outputs differ as a result"
    return IN006.finding(
        Severity.WARNING if harmless else Severity.ERROR,
        message,
        {"images": images, "differing": dict(differing), "outputs_agree": harmless},
        (advise("install the versions of pillow and simplejpeg that bundle.json lists under environment"),),
    )


IN007 = Rule(
    "IN007",
    "inputs changed to fit the model",
    meaning=(
        "The data do not fit the inputs of the model as they are, and there is one way to make them fit: the "
        "channels are moved, or pixels become values of another type. The model computes on what it was then given."
    ),
    measured="The shape and type of the data are compared with those of the input.",
    neighbours="EX004: the deployed file takes its inputs in another form than the reference.",
    remedy="Make sure that your own program changes its inputs in the same way.",
)


def input_changes(notes: Sequence[str]) -> Finding | None:
    """IN007: how the data were changed to fit the inputs of the model."""
    if not notes:
        return None
    return IN007.finding(Severity.INFO, "; ".join(notes), {"changes": list(notes)})
