"""The modes of a module: which layers normalise by the batch in training mode, which are random, and that no pass changes anything (torch)."""

from __future__ import annotations

import copy
import io
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from bnexport.errors import InputError, reason
from bnexport.results.runs import Mode

if TYPE_CHECKING:
    import torch

_RANDOM = ("DropPath", "StochasticDepth", "DropBlock", "DropBlock2d", "DropBlock3d", "RReLU", "GaussianNoise")
"""Classes of layers that are random in training mode, besides PyTorch's own dropout layers; packages have their own of the same names."""

_WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}
"""Modules that only run another one: on several devices, or compiled."""


def own_copy(module: torch.nn.Module) -> torch.nn.Module:
    """A copy on the CPU that shares nothing with the original, without gradients.

    Raises:
        InputError: it cannot be copied.
    """
    import torch

    while (inner := _WRAPPERS.get(type(module).__name__, "")) and isinstance(
        within := getattr(module, inner, None), torch.nn.Module
    ):
        module = within
    try:
        with torch.no_grad():
            duplicate = copy.deepcopy(module)
    except (RuntimeError, TypeError, AttributeError):  # tensors that were computed, as weight_norm keeps them
        duplicate = _copy_by_pickle(module)
    for parameter in duplicate.parameters():
        parameter.grad = None
    return duplicate.to("cpu")


def _copy_by_pickle(module: torch.nn.Module) -> torch.nn.Module:
    import torch

    stream = io.BytesIO()
    try:
        torch.save(module, stream)
        stream.seek(0)
        return cast(
            "torch.nn.Module", torch.load(stream, map_location="cpu", weights_only=False)
        )  # it is the caller's own
    except Exception as error:
        raise InputError(
            f"the module cannot be copied ({reason(error)})",
            fix="pass a module that copy.deepcopy copies, or name it: bnexport check package.module:factory",
        ) from error


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers of a module whose pass depends on the mode, by their paths.

    Args:
        normalisations: those that normalise by the batch, in either mode.
        by_batch: those that do so in training mode.
        random: those that are random in training mode.
    """

    normalisations: tuple[str, ...]
    by_batch: frozenset[str]
    random: tuple[str, ...]

    @property
    def frozen(self) -> frozenset[str]:
        """The BatchNormalization layers that use moving statistics in training mode, too."""
        return frozenset(self.normalisations) - self.by_batch


def settle_layers(module: torch.nn.Module) -> Layers:
    """The layers that depend on the mode, of a module that is left in inference mode.

    Layers are frozen where the module's own `train()` leaves them in inference mode, and where the module is in training
    mode and they are not.
    """
    frozen = {name for name, layer in module.named_modules() if module.training and not layer.training}
    _set_mode(module, training=True)
    left = {name for name, layer in module.named_modules() if not layer.training}
    _set_mode(module, training=False)
    layers = dict(module.named_modules())
    normalisations = [name for name, layer in layers.items() if _normalises(layer)]
    switched = {name for name, layer in layers.items() if _has_statistics(layer)} - frozen - left
    by_batch = {name for name in switched if not type(layers[name]).__name__.startswith("Frozen")}
    always = {name for name in normalisations if getattr(layers[name], "running_mean", None) is None}
    return Layers(
        tuple(normalisations),
        frozenset(by_batch | always),
        tuple(name for name, layer in layers.items() if _is_random(layer)),
    )


def _set_mode(module: torch.nn.Module, *, training: bool) -> None:
    try:
        module.train(training)
    except Exception as error:  # a method of somebody's own
        raise InputError(f"the module's train({training}) fails ({reason(error)})") from error


def _normalises(layer: torch.nn.Module) -> bool:
    """Whether a layer is BatchNormalization: PyTorch's, or one of somebody's own with moving statistics."""
    import torch

    if isinstance(layer, torch.nn.modules.instancenorm._InstanceNorm):
        return False
    return isinstance(layer, torch.nn.modules.batchnorm._NormBase) or _has_statistics(layer)


def _has_statistics(layer: torch.nn.Module) -> bool:
    return all(getattr(layer, name, None) is not None for name in ("running_mean", "running_var"))


def _is_random(layer: torch.nn.Module) -> bool:
    import torch

    if isinstance(layer, torch.nn.modules.dropout._DropoutNd):
        return bool(layer.p > 0)
    if isinstance(layer, torch.nn.MultiheadAttention | torch.nn.RNNBase):
        return bool(layer.dropout > 0)
    return type(layer).__name__ in _RANDOM


@contextmanager
def in_mode(module: torch.nn.Module, layers: Layers, mode: Mode, seed: int | None) -> Iterator[None]:
    """While open, a module is in a mode; afterwards it is in inference mode, its buffers as before, and so are all generators of random numbers.

    Args:
        module: the module, in inference mode.
        layers: its layers that depend on the mode.
        mode: training mode normalises by the batch.
        seed: turns random layers on, started from it.
    """
    import torch

    switched = [*(layers.by_batch if mode == "training" else ()), *(layers.random if seed is not None else ())]
    chosen = [module.get_submodule(name) for name in switched]
    buffers = [
        (layer, name, value, value.clone())
        for layer in module.modules()
        for name, value in layer._buffers.items()
        if value is not None
    ]
    numbers, drawn = random.getstate(), np.random.get_state()  # noqa: NPY002 - the module may use it
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        torch.random.default_generator.manual_seed(seed or 0)
        try:
            for layer in chosen:
                layer.training = True
            yield
        finally:
            for layer in chosen:
                layer.training = False
            for layer, name, value, before in buffers:
                layer._buffers[name] = value
                value.copy_(before)
            random.setstate(numbers)
            np.random.set_state(drawn)  # noqa: NPY002
