"""The question this tool grew from, row by row: what was published, and what comes out here.

    python scripts/reproduce_question.py [--quick] [--json FILE]

ResNet50 (197x197x1, 3 classes, no weights), Adam, categorical cross-entropy, 5 epochs on three pictures (the demo's). `--quick`
leaves out the last row, 1,000 epochs at the default momentum, which takes some ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bnexport import datasets
from bnexport.demo.demo import SEED, draw
from bnexport.frameworks.keras import model as keras_model, passes as keras_passes
from bnexport.results.preprocessing import Preprocessing
from bnexport.system.files import Format

SIZE = (197, 197)
MILESTONES = (1, 2, 5, 10, 20, 50, 100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 700, 800, 900, 1000)


def three_pictures() -> tuple[np.ndarray, np.ndarray]:
    """The demo's pictures as ResNet50 sees them, and their one-hot classes."""
    with tempfile.TemporaryDirectory() as folder:
        for name, picture in draw().items():
            picture.save(Path(folder, f"{name}.png"))
        batch = next(iter(datasets.Reader(datasets.find(Path(folder)), Preprocessing(SIZE))))
    return batch.x, np.eye(3, dtype=np.float32)


def compiled(seed: int, momentum: float | None = None) -> Any:
    """The net of the question, ready to fit."""
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    net = keras.applications.ResNet50(input_shape=(*SIZE, 1), classes=3, weights=None)
    for layer in net.layers:
        if momentum is not None and isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum
    net.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return net


def fitted(net: Any, x: np.ndarray, y: np.ndarray, epochs: int) -> str:
    """Fits, and writes down what fit said."""
    history = net.fit(x, y, epochs=epochs, verbose=0).history
    return f"loss {listed(history['loss'])}; accuracy {listed(history['accuracy'])}"


def listed(values: list[float]) -> str:
    """Numbers as the question wrote them."""
    return ", ".join(f"{v:.3g}" for v in values)


def predicted(net: Any, x: np.ndarray) -> str:
    """The class and probability of each image."""
    p = net.predict(x, verbose=0)
    return ", ".join(f"class {row.argmax()} with {row.max():.5f}" for row in p)


def evaluated(net: Any, x: np.ndarray, y: np.ndarray) -> str:
    """What evaluate says now, from the logits, and what it said then, from probabilities that were clipped at 1e-7."""
    loss, accuracy = net.evaluate(x, y, verbose=0)
    clipped = -np.log(np.clip((net.predict(x, verbose=0) * y).sum(axis=1), 1e-7, 1)).mean()
    return f"loss {clipped:.5g} as Keras computed it then ({loss:.4g} from the logits, as now), accuracy {accuracy:.3g}"


def forced_training(net: Any, x: np.ndarray, y: np.ndarray) -> str:
    """Loss and accuracy of the training-mode pass, from its logits (Keras' evaluate works on them too)."""
    loaded = keras_model.describe(net, Path("question.keras"), Format.KERAS, "")
    logits = (
        keras_passes.Passes(loaded)
        .run("training", {loaded.inputs[0].name: x})[f"{loaded.outputs[0]}/logits"]
        .astype(float)
    )
    shifted = logits - logits.max(axis=1, keepdims=True)
    loss = float((np.log(np.exp(shifted).sum(axis=1)) - (shifted * y).sum(axis=1)).mean())
    return f"loss {loss:.3g}, accuracy {float((logits.argmax(1) == y.argmax(1)).mean()):.3g}"


def along(x: np.ndarray, y: np.ndarray) -> list[dict[str, float]]:
    """Accuracy in inference mode along 1,000 epochs at the default momentum."""
    net, rows = compiled(SEED), []
    done = 0
    for epoch in MILESTONES:
        history = net.fit(x, y, initial_epoch=done, epochs=epoch, verbose=0).history
        loss, accuracy = net.evaluate(x, y, verbose=0)
        done = epoch
        rows.append(
            {
                "epoch": epoch,
                "fit_accuracy": history["accuracy"][-1],
                "inference_accuracy": accuracy,
                "inference_loss": loss,
                "initial_values_left": 0.99**epoch,
            }
        )
        print(
            f"| {epoch} | {history['accuracy'][-1]:.2f} | {accuracy:.2f} | {loss:.3g} | {0.99**epoch:.1%} |", flush=True
        )
    return rows


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="leave out the 1,000 epochs")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    keras_model.load_framework()
    x, y = three_pictures()
    rows: list[tuple[str, str, str]] = []

    def row(what: str, published: str, measured: str) -> None:
        rows.append((what, published, measured))
        print(f"| {what} | {published} | {measured} |", flush=True)

    print("| | published | here |\n|---|---|---|")
    net = compiled(SEED)
    row("the asker's fit", "loss 1.3229, .1474, .0057, .0107, 1.38e-4; accuracy 0, 1, 1, 1, 1", fitted(net, x, y, 5))
    row("the asker's predict", "all three images: class 1 with .99999", predicted(net, x))
    other = compiled(2)
    row(
        "the answer's fit",
        "loss 1.4624, .6051, .2168, 1.19e-7, 1.19e-7; accuracy .33, .67, 1, 1, 1",
        fitted(other, x, y, 5),
    )
    row("evaluate on the same images", "loss 10.745, accuracy .333", evaluated(other, x, y))
    row(
        "the same with the learning phase forced to training",
        "loss 1.19e-7, accuracy 1.0",
        forced_training(other, x, y),
    )
    net = compiled(SEED, momentum=0.01)
    fitted(net, x, y, 20)
    row("momentum=0.01 on every BN, 20 epochs, predict", "right on all three (1.0, 1.0, .99999)", predicted(net, x))
    result: dict[str, Any] = {"rows": [dict(zip(("what", "published", "here"), r, strict=True)) for r in rows]}
    if not arguments.quick:
        print('\nmany epochs at the default momentum (published: predictions become right, "after 1000 epochs")\n')
        print(
            "| epoch | fit accuracy | inference accuracy | inference loss | initial values left |\n|---|---|---|---|---|"
        )
        begun = time.perf_counter()
        result["along"] = along(x, y)
        right = [r["epoch"] for r in result["along"] if math.isclose(r["inference_accuracy"], 1)]
        print(f"\nright on all three at the milestones {right or 'none'}; {time.perf_counter() - begun:.0f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
