"""What NVIDIA's driver says about itself and its GPUs (libcuda, through ctypes).

This is our own: nvidia-ml-py asks NVML, which lists GPUs that CUDA may not see (CUDA_VISIBLE_DEVICES, a container
without libcuda) and cannot say why CUDA does not start.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR (cuda.h)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device: its name, its compute capability such as (9, 0), and its memory in bytes."""

    name: str
    capability: tuple[int, int]
    memory: int


@dataclass(frozen=True, slots=True)
class Driver:
    """The driver.

    Args:
        version: its own, such as "580.95"; "" where it does not tell.
        cuda: the newest CUDA it supports, such as (13, 0).
        gpus: what it drives.
        problem: why it drives nothing; "" where it does.
    """

    version: str
    cuda: tuple[int, int]
    gpus: tuple[Gpu, ...]
    problem: str = ""


def driver() -> Driver | None:
    """The driver; None where libcuda cannot be loaded."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    number = ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(number))
    newest = (number.value // 1000, number.value % 1000 // 10)
    code = cuda.cuInit(0)
    if code:
        return Driver(_version(), newest, (), f"cuInit failed with error {code} (cuda.h, CUresult)")
    count = ctypes.c_int()
    cuda.cuDeviceGetCount(ctypes.byref(count))
    return Driver(_version(), newest, tuple(_gpu(cuda, ordinal) for ordinal in range(count.value)))


def _gpu(cuda: ctypes.CDLL, ordinal: int) -> Gpu:
    device, name, memory = ctypes.c_int(), ctypes.create_string_buffer(128), ctypes.c_size_t()
    cuda.cuDeviceGet(ctypes.byref(device), ordinal)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    part = ctypes.c_int()
    capability = []
    for attribute in (_MAJOR, _MINOR):
        cuda.cuDeviceGetAttribute(ctypes.byref(part), attribute, device)
        capability.append(part.value)
    return Gpu(name.value.decode(errors="replace"), (capability[0], capability[1]), memory.value)


def _version() -> str:
    """From the line "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  ..."."""
    try:
        words = Path("/proc/driver/nvidia/version").read_text().split()
    except OSError:
        return ""
    return next((word for word in words if word.replace(".", "").isdigit() and "." in word), "")
