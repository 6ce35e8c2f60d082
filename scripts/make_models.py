"""Writes the small models in models/ and the table in models/README.md.

    python scripts/make_models.py

tiny_residual: a residual net of two blocks (6 BatchNormalization layers) overfit for 5 epochs on the three pictures in
models/three/, with ResNet50's momentum .99: 3 of 3 right in training mode, 1 of 3 in inference mode. The seed is the
first with which it comes out so.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from bnexport import datasets
from bnexport.datasets import sidecar
from bnexport.datasets.sidecar import Sidecar
from bnexport.demo.demo import draw
from bnexport.exporter.export import export
from bnexport.frameworks.keras.model import load, load_framework
from bnexport.frameworks.keras.passes import Passes
from bnexport.results.preprocessing import Preprocessing

MODELS = Path(__file__).parent.parent / "models"
SPEC = Preprocessing((32, 32))
EPOCHS = 5


def tiny_residual() -> Any:
    """A stem, two residual blocks of two convolutions, one projection: what ResNet50 is made of, in 32x32.

    The projection is 3x3: training a 1x1 convolution of stride 2 on 16x16 corrupts the heap in TensorFlow 2.21 with oneDNN.
    """
    import keras
    from keras import layers as k

    def block(x: Any, filters: int, *, stride: int, name: str) -> Any:
        y = k.Conv2D(filters, 3, strides=stride, padding="same", name=f"{name}_1_conv")(x)
        y = k.ReLU(name=f"{name}_1_relu")(k.BatchNormalization(name=f"{name}_1_bn")(y))
        y = k.BatchNormalization(name=f"{name}_2_bn")(k.Conv2D(filters, 3, padding="same", name=f"{name}_2_conv")(y))
        if stride > 1:
            x = k.BatchNormalization(name=f"{name}_0_bn")(
                k.Conv2D(filters, 3, padding="same", strides=stride, name=f"{name}_0_conv")(x)
            )
        return k.ReLU(name=f"{name}_out")(k.Add(name=f"{name}_add")([x, y]))

    x = keras.Input((32, 32, 1), name="image")
    y = k.ZeroPadding2D(1, name="stem_pad")(
        k.ReLU(name="stem_relu")(
            k.BatchNormalization(name="stem_bn")(k.Conv2D(8, 3, padding="same", name="stem_conv")(x))
        )
    )
    y = k.MaxPooling2D(3, strides=2, name="stem_pool")(y)
    y = block(block(y, 8, stride=1, name="block1"), 16, stride=2, name="block2")
    return keras.Model(
        x, k.Dense(3, "softmax", name="predictions")(k.GlobalAveragePooling2D(name="pool")(y)), name="tiny_residual"
    )


def make_tiny_residual() -> None:
    """Trains it and writes it as .h5 and .keras, each with a sidecar, and as .onnx."""
    import keras

    pictures = MODELS / "three"
    pictures.mkdir(exist_ok=True)
    for name, picture in draw().items():
        picture.resize((48, 48)).save(pictures / f"{name}.png")
    batch = next(iter(datasets.Reader(datasets.find(pictures), SPEC)))
    classes = tuple(Path(name).stem for name in batch.names)
    about = {"epochs": EPOCHS, "learning_rate": 0.02}
    paths = [MODELS / f"tiny_residual{suffix}" for suffix in (".h5", ".keras")]
    for seed in range(100):
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        net = tiny_residual()
        net.compile(
            optimizer=keras.optimizers.Adam(about["learning_rate"]),
            loss="categorical_crossentropy",
            metrics=["accuracy"],
        )
        fit = net.fit(batch.x, np.eye(3), epochs=EPOCHS, verbose=0).history["accuracy"]
        for path in paths:
            net.save(path)
            sidecar.write(
                path, Sidecar(SPEC, classes, dict(zip(batch.names, classes, strict=True)), {**about, "seed": seed})
            )
        passes = Passes(load(paths[0]))
        right = {
            mode: int((passes.run(mode, {"image": batch.x})["predictions"].argmax(1) == np.arange(3)).sum())
            for mode in ("inference", "training")
        }
        if fit[-1] == 1 and right == {"inference": 1, "training": 3}:
            print(f"tiny_residual: seed {seed}, fit {fit}, right of 3: {right}")
            break
    export(paths[0], MODELS / "tiny_residual.onnx")


def write_hashes() -> None:
    """Brings the table in models/README.md up to date."""
    text = (MODELS / "README.md").read_text(encoding="utf-8")
    files = sorted(path for path in MODELS.iterdir() if path.suffix in (".h5", ".keras", ".onnx"))
    rows = [
        "| file | bytes | sha256 |",
        "|---|---|---|",
        *(f"| {f.name} | {f.stat().st_size} | `{hashlib.sha256(f.read_bytes()).hexdigest()}` |" for f in files),
    ]
    (MODELS / "README.md").write_text(text.split("| file |", maxsplit=1)[0] + "\n".join(rows) + "\n", encoding="utf-8")


def main() -> None:
    """Writes everything but what PyTorch makes (scripts/make_torch_model.py)."""
    load_framework()
    make_tiny_residual()
    write_hashes()


if __name__ == "__main__":
    main()
