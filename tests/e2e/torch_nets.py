"""Nets of PyTorch for tests, and the names that a command line gives them.

`ResNet18` and `MobileNetV3` are those of torchvision 0.28, module by module, with a width: at width 1 (and 64 channels) the weights of torchvision fit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """A residual block of ResNet18, whose ReLU is called twice and works in place."""

    def __init__(self, inner: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        shortcut = nn.Sequential(nn.Conv2d(inner, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
        self.downsample = shortcut if stride > 1 or inner != channels else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        return cast(Tensor, self.relu(y))


class ResNet18(nn.Module):
    """torchvision.models.resnet18."""

    def __init__(self, channels: int = 64, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        for stage in range(4):
            before, after = channels << max(0, stage - 1), channels << stage
            blocks = nn.Sequential(Block(before, after, 2 if stage else 1), Block(after, after))
            self.add_module(f"layer{stage + 1}", blocks)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(8 * channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(4):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return cast(Tensor, self.fc(torch.flatten(self.avgpool(x), 1)))


def round_to_eight(channels: float) -> int:
    """`_make_divisible` of torchvision."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class ConvNormActivation(nn.Sequential):
    """torchvision.ops.misc.Conv2dNormActivation."""

    def __init__(
        self,
        inner: int,
        channels: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activation: type[nn.Module] | None = None,
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(inner, channels, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
            nn.BatchNorm2d(channels, eps=0.001, momentum=0.01),
        ]
        if activation is not None:
            layers.append(activation(inplace=True))  # type: ignore[call-arg] # every activation of the net has it
        super().__init__(*layers)


class SqueezeExcitation(nn.Module):
    """torchvision.ops.misc.SqueezeExcitation."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1, self.fc2 = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)
        self.activation, self.scale_activation = nn.ReLU(), nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        scale = self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x)))))
        return cast(Tensor, scale * x)


class InvertedResidual(nn.Module):
    """torchvision.models.mobilenetv3.InvertedResidual."""

    def __init__(self, inner: int, kernel: int, wide: int, channels: int, *, se: bool, hard: bool, stride: int) -> None:
        super().__init__()
        activation = nn.Hardswish if hard else nn.ReLU
        layers: list[nn.Module] = []
        if wide != inner:
            layers.append(ConvNormActivation(inner, wide, 1, activation=activation))
        layers.append(ConvNormActivation(wide, wide, kernel, stride, groups=wide, activation=activation))
        if se:
            layers.append(SqueezeExcitation(wide, round_to_eight(wide // 4)))
        layers.append(ConvNormActivation(wide, channels, 1))
        self.block = nn.Sequential(*layers)
        self.use_res_connect = stride == 1 and inner == channels

    def forward(self, x: Tensor) -> Tensor:
        y = cast(Tensor, self.block(x))
        return y + x if self.use_res_connect else y


MOBILENET = [  # kernel, expanded, out, squeeze-and-excitation, hard swish, stride
    (16, 3, 16, 16, True, False, 2),
    (16, 3, 72, 24, False, False, 2),
    (24, 3, 88, 24, False, False, 1),
    (24, 5, 96, 40, True, True, 2),
    (40, 5, 240, 40, True, True, 1),
    (40, 5, 240, 40, True, True, 1),
    (40, 5, 120, 48, True, True, 1),
    (48, 5, 144, 48, True, True, 1),
    (48, 5, 288, 96, True, True, 2),
    (96, 5, 576, 96, True, True, 1),
    (96, 5, 576, 96, True, True, 1),
]


class MobileNetV3(nn.Module):
    """torchvision.models.mobilenet_v3_small."""

    def __init__(self, width: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        wide: Callable[[int], int] = lambda channels: round_to_eight(channels * width)  # noqa: E731 - as torchvision has it
        layers: list[nn.Module] = [ConvNormActivation(3, wide(16), 3, 2, activation=nn.Hardswish)]
        for inner, kernel, expanded, channels, se, hard, stride in MOBILENET:
            layers.append(
                InvertedResidual(wide(inner), kernel, wide(expanded), wide(channels), se=se, hard=hard, stride=stride)
            )
        layers.append(ConvNormActivation(wide(96), 6 * wide(96), 1, activation=nn.Hardswish))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(6 * wide(96), wide(1024)),
            nn.Hardswish(inplace=True),
            nn.Dropout(0.2, inplace=True),
            nn.Linear(wide(1024), classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(torch.flatten(self.avgpool(self.features(x)), 1)))


class Small(nn.Module):
    """A stem, two residual blocks in a list, dropout and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks = nn.ModuleList([Block(8, 8), Block(8, 8)])
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
                    layer.running_mean.normal_(0, 0.1)
                    layer.running_var.uniform_(0.5, 1.5)
    return module.eval()


def small() -> nn.Module:
    """`torch_nets:small`, with weights that are the same each time."""
    return cast(nn.Module, randomise(Small()))


NETS = {"resnet18": partial(ResNet18, 8, 10), "mobilenet_v3": partial(MobileNetV3, 0.5, 10)}
