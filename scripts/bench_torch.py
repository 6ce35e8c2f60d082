"""ResNet50 in PyTorch with the weights of a Keras one, and what the recalibration tools of that world make of it (see bench_recalibrate.py)."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import nn

EPSILON = 1.001e-5  # of every BatchNormalization layer of keras.applications.ResNet50
Statistics = dict[str, tuple[np.ndarray, np.ndarray]]


class ResNet50(nn.Module):
    """keras.applications.ResNet50 up to the last BatchNormalization layer's output: stride in the first convolution of a block, biases everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        self._add("conv1", 1, 64, 7, stride=2)
        self.blocks: list[tuple[str, bool]] = []
        width = 64
        for stage, (filters, count) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=2):
            for block in range(1, count + 1):
                name, stride = f"conv{stage}_block{block}", 2 if block == 1 and stage > 2 else 1
                if block == 1:
                    self._add(f"{name}_0", width, 4 * filters, 1, stride=stride)
                self._add(f"{name}_1", width, filters, 1, stride=stride)
                self._add(f"{name}_2", filters, filters, 3, padding=1)
                self._add(f"{name}_3", filters, 4 * filters, 1)
                self.blocks.append((name, block == 1))
                width = 4 * filters

    def _add(self, name: str, inputs: int, outputs: int, kernel: int, **settings: Any) -> None:
        self.layers[f"{name}_conv"] = nn.Conv2d(inputs, outputs, kernel, **settings)
        self.layers[f"{name}_bn"] = nn.BatchNorm2d(outputs, eps=EPSILON)

    def _normalised(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return self.layers[f"{name}_bn"](self.layers[f"{name}_conv"](x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The features before pooling, of images (N, 1, 197, 197)."""
        x = torch.relu(self._normalised("conv1", nn.functional.pad(x, (3, 3, 3, 3))))
        x = nn.functional.max_pool2d(nn.functional.pad(x, (1, 1, 1, 1)), 3, 2)
        for name, projected in self.blocks:
            shortcut = self._normalised(f"{name}_0", x) if projected else x
            y = torch.relu(self._normalised(f"{name}_1", x))
            y = torch.relu(self._normalised(f"{name}_2", y))
            x = torch.relu(self._normalised(f"{name}_3", y) + shortcut)
        return x


class Twin:
    """The PyTorch net with the weights of the Keras net, and the tools that are installed.

    Args:
        net: keras.applications.ResNet50.
        names: its BatchNormalization layers.
    """

    def __init__(self, net: Any, names: list[str]) -> None:
        self._net, self._names = ResNet50(), names
        for layer, module in self._net.layers.items():
            values = [np.asarray(value) for value in net.get_layer(layer).get_weights()]
            if isinstance(module, nn.Conv2d):
                values[0] = values[0].transpose(3, 2, 0, 1)
            targets = (
                (module.weight, module.bias)
                if isinstance(module, nn.Conv2d)
                else (module.weight, module.bias, module.running_mean, module.running_var)
            )
            for target, value in zip(targets, values, strict=True):
                target.data.copy_(torch.from_numpy(value.copy()))
        self.missing: list[str] = []

    def full_batch(self, x: np.ndarray) -> Statistics:
        """The statistics of one training-mode pass over all images at once, in float64; population variances."""
        net = deepcopy(self._net).double().train()
        counts: dict[str, int] = {}
        for name in self._names:
            norm = net.layers[name]
            norm.momentum = 1.0
            norm.register_forward_pre_hook(
                lambda _, inputs, name=name: counts.__setitem__(name, inputs[0].numel() // inputs[0].shape[1])
            )
        with torch.no_grad():
            net(torch.from_numpy(x.transpose(0, 3, 1, 2).astype(np.float64)))
        return {
            name: (
                mean,
                var * (counts[name] - 1) / counts[name],
            )  # PyTorch keeps N / (N - 1) times the population variance
            for name, (mean, var) in self._read(net).items()
        }

    def _read(self, net: ResNet50) -> Statistics:
        norms = {name: net.layers[name] for name in self._names}
        return {
            name: (n.running_mean.numpy().astype(float), n.running_var.numpy().astype(float))
            for name, n in norms.items()
        }

    def updates(self) -> dict[str, Callable[[np.ndarray, int], Statistics]]:
        """The statistics that each installed tool arrives at, from images and a batch size."""

        def loader(x: np.ndarray, size: int) -> list[torch.Tensor]:
            return list(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).split(size))

        def update_bn(x: np.ndarray, size: int) -> Statistics:
            net = deepcopy(self._net)
            torch.optim.swa_utils.update_bn(loader(x, size), net)
            return self._read(net)

        found = {"torch, swa_utils.update_bn": update_bn}
        try:
            from fvcore.nn.precise_bn import update_bn_stats
        except ImportError:
            self.missing.append("without fvcore: no row for update_bn_stats")
            return found

        def precise(x: np.ndarray, size: int) -> Statistics:
            net, data = deepcopy(self._net).train(), loader(x, size)
            with torch.no_grad():
                update_bn_stats(net, data, num_iters=len(data), progress=None)
            return self._read(net)

        return found | {"fvcore, update_bn_stats": precise}
