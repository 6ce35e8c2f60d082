"""Writes models/torch_residual.onnx: what PyTorch exports when its BatchNormalization nodes are kept.

    python scripts/make_torch_model.py        (needs torch, see the bench extra)

The same story as tiny_residual, from another framework: a small residual net overfit for five epochs on the pictures in models/three/,
NCHW, exported with constant folding off (with it on, PyTorch folds BatchNormalization into the convolutions, and nobody can recalibrate
the file). The seed is the first with which training mode gets 3 of 3 right and inference mode does not.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from make_models import EPOCHS, MODELS, SPEC, write_hashes
from torch import nn

from bnexport import datasets
from bnexport.datasets import sidecar
from bnexport.datasets.sidecar import Sidecar
from bnexport.results.preprocessing import Layout


class Residual(nn.Module):
    """A stem, one residual block with a projection, global average pooling, three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8, momentum=0.01), nn.ReLU()
        )
        self.body = nn.Sequential(
            nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(16, momentum=0.01),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, groups=4, bias=False),
            nn.BatchNorm2d(16, momentum=0.01),
        )
        self.projection = nn.Sequential(nn.Conv2d(8, 16, 1, stride=2, bias=False), nn.BatchNorm2d(16, momentum=0.01))
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Probabilities, shape (N, 3), of images (N, 1, 32, 32)."""
        x = self.stem(x)
        x = torch.relu(self.body(x) + self.projection(x))
        return torch.softmax(self.head(x.mean(dim=(2, 3))), dim=1)


def main() -> None:
    """Trains and writes it."""
    spec = SPEC.changed(layout=Layout.NCHW)
    batch = next(iter(datasets.Reader(datasets.find(MODELS / "three"), spec)))
    x, y = torch.from_numpy(batch.x), torch.arange(3)
    for seed in range(100):
        torch.manual_seed(seed)
        net = Residual()
        optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
        for _ in range(EPOCHS):
            optimizer.zero_grad()
            torch.nn.functional.nll_loss(net(x).clamp_min(1e-7).log(), y).backward()
            optimizer.step()
        stored = {name: value.clone() for name, value in net.state_dict().items()}
        right = {}
        for mode in ("training", "inference"):
            with torch.no_grad():
                right[mode] = int((net.train(mode == "training")(x).argmax(1) == y).sum())
            net.load_state_dict(stored)  # the training pass moved the statistics
        if right["training"] == 3 and right["inference"] < 3:
            print(f"torch_residual: seed {seed}, right of 3: {right}")
            break
    path = MODELS / "torch_residual.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # the newer exporter folds BatchNormalization whatever is said
        torch.onnx.export(
            net.eval(),
            (x,),
            path,
            input_names=["image"],
            output_names=["probabilities"],
            dynamic_axes={"image": {0: "N"}, "probabilities": {0: "N"}},
            opset_version=17,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            dynamo=False,
        )
    classes = tuple(Path(name).stem for name in batch.names)
    sidecar.write(
        path, Sidecar(spec, classes, dict(zip(batch.names, classes, strict=True)), {"seed": seed, "epochs": EPOCHS})
    )
    write_hashes()


if __name__ == "__main__":
    main()
