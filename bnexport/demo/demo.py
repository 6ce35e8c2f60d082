"""`bnexport demo`: the whole story on three pictures drawn on the spot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from bnexport.checking.check import check
from bnexport.demo.train import Training, train
from bnexport.errors import MachineError
from bnexport.exporter.export import Export, export
from bnexport.folding.fold import fold
from bnexport.frameworks.keras import installed as keras_installed
from bnexport.progress import Progress
from bnexport.recalibration.recalibrate import answers, recalibrate
from bnexport.results.outcomes import Folding, Recalibration
from bnexport.results.verdict import CheckReport, Side
from bnexport.system.cache import NOTHING_KEPT, Cache

SEED = 5
"""Of the seeds 0 to 7, one of those whose training settles within 5 epochs (as 2, 4, 6 and 7 do)."""

MOST_EPOCHS = 15
"""How far a demo goes on where the asked-for epochs do not reach 100 %."""


@dataclass(frozen=True, slots=True)
class Repair:
    """The repaired model in its three forms, each with what it answers: Keras loaded again, ONNX, and ONNX folded."""

    recalibration: Recalibration
    folding: Folding
    keras: CheckReport
    onnx: Side
    folded: Side


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo did, and where it left things: the pictures, the model, its ONNX export, the check, and the repair (None where nothing was wrong)."""

    pictures: Path
    training: Training
    exported: Export
    report: CheckReport
    repair: Repair | None
    asked_epochs: int


def demo(
    folder: Path,
    *,
    epochs: int = 5,
    momentum: float | None = None,
    seed: int = SEED,
    store: Cache = NOTHING_KEPT,
    progress: Progress | None = None,
) -> Demo:
    """Overfits ResNet50 on three pictures, exports it, and checks it in every mode.

    Args:
        folder: where everything goes; made if it is not there.
        epochs: for training; where they do not reach 100 % it goes on to at most 15.
        momentum: for every BatchNormalization layer; None keeps ResNet50's .99.
        seed: for the initial weights.
        store: keeps what its checks compute for the next ones of the same models; nothing by default.
        progress: notified of each stage.

    Raises:
        MachineError: the folder cannot be written to, or TensorFlow is not installed.
    """
    progress = progress or Progress()
    keras_installed.refuse_absence("tensorflow")
    pictures = folder / "images"
    try:
        pictures.mkdir(parents=True, exist_ok=True)
        for name, picture in draw().items():
            picture.save(pictures / f"{name}.png")
    except OSError as error:
        raise MachineError(
            f"cannot write to {folder} ({error.strerror or error})", fix="choose another folder: bnexport demo DIR"
        ) from error
    model, graph = folder / "model.h5", folder / "model.onnx"
    training = train(
        pictures,
        model,
        epochs=epochs,
        extend_to=max(epochs, MOST_EPOCHS),
        momentum=momentum,
        seed=seed,
        progress=progress,
    )
    exported = export(model, graph, progress=progress)
    report = check(model, pictures, store=store, progress=progress)
    repair = None if report else _repair(folder, model, graph, pictures, store, progress)
    return Demo(pictures, training, exported, report, repair, epochs)


def _repair(folder: Path, model: Path, graph: Path, pictures: Path, store: Cache, progress: Progress) -> Repair:
    """Recalibrates the Keras model and the ONNX file, folds the latter, and asks each of the three again."""
    keras, onnx, folded = folder / "repaired.keras", folder / "repaired.onnx", folder / "folded.onnx"
    recalibrate(model, pictures, keras, progress=progress)
    recalibration = recalibrate(graph, pictures, onnx, progress=progress)
    return Repair(
        recalibration,
        fold(onnx, folded, pictures, progress=progress),
        check(keras, pictures, store=store, progress=progress),
        answers(onnx, pictures),
        answers(folded, pictures),
    )


def draw() -> dict[str, Image.Image]:
    """Three pictures that nobody confuses: a disc, stripes and a cross on a gradient; RGB, 240x240."""
    side = 240
    disc = Image.new("RGB", (side, side), "white")
    ImageDraw.Draw(disc).ellipse((40, 40, 200, 200), fill=(200, 30, 30))
    stripes = Image.new("RGB", (side, side), (250, 220, 60))
    lines = ImageDraw.Draw(stripes)
    for left in range(0, side, 40):
        lines.rectangle((left, 0, left + 19, side), fill=(20, 40, 120))
    cross = Image.linear_gradient("L").resize((side, side)).convert("RGB")
    bars = ImageDraw.Draw(cross)
    bars.rectangle((100, 20, 140, 220), fill=(10, 120, 40))
    bars.rectangle((20, 100, 220, 140), fill=(10, 120, 40))
    return {"cross": cross, "disc": disc, "stripes": stripes}
