"""Nets of PyTorch for tests, and the names that a command line gives them."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """A residual block whose ReLU is called twice and works in place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x
        return cast(Tensor, self.relu(y))


class Small(nn.Module):
    """A stem, two residual blocks in a list, dropout and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks = nn.ModuleList([Block(8), Block(8)])
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, self.head(self.drop(x.mean((2, 3)))))


def randomise(module: nn.Module, seed: int = 0) -> Any:
    """The module with other weights and statistics, the same for each seed, in inference mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.reset_parameters()
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, 0, 0.1)
                if layer.running_mean is not None and layer.running_var is not None:
                    layer.running_mean.normal_(0, 0.3)
                    layer.running_var.uniform_(0.5, 2)
    return module.eval()


def small() -> nn.Module:
    """`torch_nets:small`, with weights that are the same each time."""
    return cast(nn.Module, randomise(Small()))
