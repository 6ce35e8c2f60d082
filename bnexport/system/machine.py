"""The cores and the memory that this process may use: the machine's, cut by the affinity mask and by control groups (Linux, cgroup v2)."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from bnexport.errors import MachineError

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows
    resource = None

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")

_UNKNOWN_MEMORY = 2 << 30
"""What is assumed to be free where the system does not say, in bytes."""


def cores() -> list[int]:
    """The CPU cores this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def threads() -> int:
    """How many CPU threads this process may keep busy: its cores, cut by the CPU quotas of its control groups."""
    quotas = [int(limit) // int(period) for limit, period in _limits("cpu.max")]
    return min(len(cores()), max(1, min(quotas, default=len(cores()))))


def has_vnni() -> bool | None:
    """Whether this processor multiplies 8-bit integers without saturating (VNNI, or any that is not x86); None where the system does not say."""
    if platform.machine().lower() not in ("x86_64", "amd64", "i686"):
        return True
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return any(flag in flags.split() for flag in ("avx512_vnni", "avx_vnni")) if flags else None


def memory_limit() -> int | None:
    """The most bytes of memory that the control groups of this process allow; None where they set no limit."""
    return min((int(limit) for (limit,) in _limits("memory.max")), default=None)


def data_limit() -> int | None:
    """The most bytes that this process may allocate (RLIMIT_DATA, which --isolate-memory sets); None where nothing limits it."""
    if resource is None:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return None if soft == resource.RLIM_INFINITY else soft


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory is what was missing: the error says so, or nine tenths of what this process may allocate are.

    Libraries that are refused memory raise whatever they come to.
    """
    if isinstance(error, MemoryError) or any(words in str(error) for words in _REFUSED):
        return True
    limit = data_limit()
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
        used = sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))
        return limit is not None and used > 0.9 * limit
    return False


def lack_of_memory(what: str, detail: str = "") -> MachineError:
    """The error of `what` needs more memory than there is, or than this process may take; `detail` is the message of a library."""
    limit, suffix = data_limit(), f" ({detail})" if detail else ""
    if limit is None:
        return MachineError(f"this machine has too little memory for {what}{suffix}", fix="try a smaller --batch-size")
    return MachineError(
        f"{what} requires more memory than the {limit / 1e6:,.0f} MB that this process may take{suffix}",
        fix="if you trust the file, allow more with --isolate-memory",
    )


_REFUSED = (
    "bad_alloc",  # C++
    "bad allocation",
    "Failed to allocate memory",  # onnxruntime
    "Cannot allocate memory",  # ENOMEM
    "can't start new thread",  # Python: there is no memory for its stack
    "failed to map segment",  # glibc, elf/dl-load.c: there is none for a library
    "cannot map zero-fill pages",
)
"""The words of refused memory, of libraries that have no class of their own for that."""


def memory_available() -> int:
    """How many bytes of memory this process may still take: what the system has free, cut by its control groups; 2 GiB where neither says."""
    free = []
    with suppress(OSError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    free += [int(limit) - int(used) for limit, used in _limits("memory.max", "memory.current")]
    return max(0, min(free, default=_UNKNOWN_MEMORY))


def _limits(*names: str) -> Iterator[list[str]]:
    """The numbers in these files of each control group that holds this process and sets a limit ("max" is none), the own one first.

    No library reads these files (psutil does not), so that this is our own.
    """
    for group in _groups():
        with suppress(OSError):  # the root of the machine has no limits
            words = [word for name in names for word in (group / name).read_text(encoding="ascii").split()]
            if words and all(word.isdecimal() for word in words):
                yield words


def _groups() -> list[Path]:
    """The folders of this process' control group and of those around it; a container may see its own as the root."""
    inside = Path()
    with suppress(OSError):
        lines = _OWN_GROUP.read_text(encoding="utf-8").splitlines()
        inside = next((Path(line[4:]) for line in lines if line.startswith("0::/")), inside)
    return [_GROUPS / part for part in (inside, *inside.parents) if ".." not in part.parts]
