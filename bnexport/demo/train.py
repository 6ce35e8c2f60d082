"""`bnexport train`: overfit a keras.applications net on a few images, and write down how its images are prepared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np

from bnexport import datasets
from bnexport.datasets import sidecar
from bnexport.datasets.sidecar import Sidecar
from bnexport.demo import keras_train
from bnexport.demo.options import TrainingKeywords, TrainingOptions
from bnexport.errors import InputError, UsageError
from bnexport.frameworks.keras import model as keras_model
from bnexport.keras_files.architecture import net_names
from bnexport.progress import Progress
from bnexport.results.outcomes import Epoch
from bnexport.results.preprocessing import Preprocessing
from bnexport.system import files, machine
from bnexport.system.suggestions import suggest


@dataclass(frozen=True, slots=True)
class Training:
    """What came of it: the model, its sidecar, the epochs as `fit` reported them, and the class names."""

    model: Path
    sidecar: Path
    epochs: tuple[Epoch, ...]
    classes: tuple[str, ...]


def train(
    source: Path | str,
    output: Path | str,
    *,
    spec: Preprocessing | None = None,
    progress: Progress | None = None,
    **options: Unpack[TrainingKeywords],
) -> Training:
    """Overfits `arch` on the images in `source` and saves it at `output`.

    Args:
        source: a folder with one subfolder for each class, or a flat one: then each image is a class of its own.
        output: .h5 or .keras; the sidecar goes beside it.
        spec: how the images are prepared; by default 197x197, grey, Lanczos, raw 0-255.
        progress: notified of each epoch.
        **options: the fields of `bnexport.demo.options.TrainingOptions`: `arch`, `epochs`, `momentum`, `learning_rate`, `batch_size`, `seed`
            and `extend_to`.

    Raises:
        InputError: the folder has no readable image, or unlabelled images beside labelled ones.
        UsageError: the output, the architecture or a number is invalid.
        MachineError: TensorFlow is not installed, or the disk is full.
    """
    progress = progress or Progress()
    spec = spec or Preprocessing((197, 197))
    output = files.writable(Path(output), (".h5", ".keras"))
    how = TrainingOptions(**options)
    names = net_names()
    if how.arch not in names:
        raise UsageError(
            f"keras.applications has no network {how.arch}",
            fix=suggest(how.arch, names) or f"the networks are {', '.join(names)}",
        )
    pictures = datasets.find(source)
    reader = datasets.Reader(pictures, spec, batch_size=len(pictures), threads=machine.threads())
    batch = next(iter(reader))
    for entry in reader.unreadable:
        progress.note(f"IN004: {entry.name} is skipped because it cannot be read ({entry.reason})")
    labels, flat = _labels(source, batch.names, batch.labels)
    classes = tuple(sorted(set(labels)))
    if len(classes) < 2:
        raise InputError(
            f"{source} contains only one class",
            found=classes[0],
            expected="two or more subfolders, one per class, or two or more images",
        )
    progress.stage("loading TensorFlow")
    keras_model.load_framework("tensorflow")
    progress.stage(f"training {how.arch} on {len(batch.names)} images")

    def report_epoch(epoch: Epoch) -> None:
        progress.note(
            f"epoch {epoch.number}/{max(how.epochs, epoch.number)}: loss {epoch.loss:.4g}, accuracy {epoch.accuracy:.3g}"
        )

    with files.whole(output) as temporary:
        history = keras_train.overfit(
            temporary,
            batch.x,
            np.array([classes.index(label) for label in labels]),
            len(classes),
            how,
            report_epoch,
        )
    settings = {
        "arch": how.arch,
        "epochs": len(history),
        "batch_size": how.batch_size,
        "learning_rate": how.learning_rate,
        "seed": how.seed,
        "images": len(labels),
    }
    settings |= {"loss": history[-1].loss, "accuracy": history[-1].accuracy} | (
        {} if how.momentum is None else {"momentum": how.momentum}
    )
    image_labels = dict(zip(batch.names, labels, strict=True)) if flat else {}
    written = sidecar.write(output, Sidecar(spec, classes, image_labels, settings))
    return Training(output, written, tuple(history), classes)


def _labels(source: Path | str, names: tuple[str, ...], labels: tuple[str, ...]) -> tuple[list[str], bool]:
    """The class of each image, and whether each image is a class of its own."""
    if not any(labels):
        stems = [Path(name).stem for name in names]
        return (stems if len(set(stems)) == len(stems) else list(names)), True
    if bare := [name for name, label in zip(names, labels, strict=True) if not label]:
        raise InputError(
            f"{source} contains images inside and outside of class subfolders",
            found=bare[0],
            fix="move every image into the subfolder of its class",
        )
    return list(labels), False
