"""A Ray cluster: connecting, a core for each worker, and workers that are made anew where a node is lost.

Files have the same names on every node (a shared file system), or are URLs; bnexport is installed on each, in the same version.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from bnexport.errors import BnexportError, MachineError, reason
from bnexport.system.machine import cores


def connect(address: str) -> ModuleType:
    """Ray, connected to a cluster.

    Args:
        address: of the cluster; "" for the one that Ray finds (RAY_ADDRESS), else one on this machine.

    Raises:
        MachineError: Ray is not installed, or there is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what matters comes as an exception
    try:
        import ray
    except ImportError as error:
        raise MachineError(
            "running on a cluster requires Ray", fix="install it with: pip install 'bnexport[ray]'"
        ) from error
    try:
        if address not in ("", "auto", "local"):
            _answers(address)
        if not ray.is_initialized():
            config = ray.job_config.JobConfig()
            config._py_driver_sys_path = _NoFolders()  # noqa: SLF001 - Ray has no public way
            ray.init(address=address or None, log_to_driver=False, logging_level="ERROR", job_config=config)
    except (OSError, ValueError, RuntimeError) as error:
        raise MachineError(
            f"cannot reach the Ray cluster {address or 'of this machine'} ({reason(error)})",
            fix="start a cluster with: ray start --head",
        ) from error
    module: ModuleType = ray
    return module


def _answers(address: str) -> None:
    """Raises what says that nobody listens at an address; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        raise ValueError("an address has the form HOST:PORT")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
        pass


def cpus(ray: ModuleType) -> int:
    """How many CPUs the cluster has now."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def describe_failure(ray: ModuleType, error: Exception, what: str) -> BnexportError:
    """What to say of an error that a worker raised, or that kept it from working."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BnexportError):
        return cause
    lost = isinstance(error, ray.exceptions.RayActorError | ray.exceptions.WorkerCrashedError)
    fix = "look at the cluster with: ray status" if lost else "BNEXPORT_DEBUG=1 shows the whole of it"
    return MachineError(f"the cluster could not {what} ({reason(error)})", fix=fix)


@contextmanager
def core() -> Iterator[int]:
    """A CPU core of this node that nobody else has taken so, by a lock that goes with the process; any core where Ray was promised more than there are."""
    mine = cores()
    with ExitStack() as stack:
        for number in mine:
            stream = stack.enter_context(_lock_file(number))
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            yield number
            return
        yield mine[os.getpid() % len(mine)]


def _lock_file(number: int) -> TextIO:
    """The lock of a core, in a folder that only this user can write to: in the temporary folder anybody may plant a link.

    Raises:
        MachineError: somebody else has the folder.
    """
    folder = Path(tempfile.gettempdir(), f"bnexport-{os.getuid()}")
    folder.mkdir(0o700, exist_ok=True)
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o022:
        raise MachineError(f"{folder} is accessible to other users", fix="remove it, or set TMPDIR to a private folder")
    descriptor = os.open(folder / f"core-{number}", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "r+")


class _NoFolders(list[str]):
    """The folders that Ray would have its workers import from: the current one among them, before the installed packages."""

    def extend(self, folders: Iterable[str]) -> None:
        """Takes none of them: workers run bnexport as it is installed."""


class Workers:
    """Objects on the nodes of a cluster, each on a core of its own.

    Where a node is lost its objects are made again elsewhere, from the same arguments, and asked again: what they know from earlier calls they must be able to find out again.

    Args:
        ray: connected.
        make: makes one, from what all have and its own arguments.
        shared: what all have; large, and sent to each node once.
        given: the arguments of each.
    """

    def __init__(
        self, ray: ModuleType, make: Callable[..., object], shared: object, given: Sequence[tuple[object, ...]]
    ) -> None:
        self._ray = ray
        self._shared = [ray.put(shared)]  # in a list, and held here: it is there as long as an object may be made again
        # An actor needs a CPU to be placed and none to stay: after a loss it fits beside the others.
        remote = ray.remote(max_restarts=-1, max_task_retries=-1, scheduling_strategy="SPREAD")(_Held)
        self._actors = [remote.remote(make, self._shared, *arguments) for arguments in given]

    def each(self, method: str, *arguments: object, on_answer: Callable[[], None] = lambda: None) -> list[Any]:
        """What a method of each gives, in their order; `on_answer` is called when one has answered.

        Raises:
            BnexportError: what one of them raised.
            MachineError: the cluster could not do it.
        """
        asked = [actor.call.remote(method, *arguments) for actor in self._actors]
        left = list(asked)
        try:
            while left:
                ready, left = self._ray.wait(left, num_returns=1)
                self._ray.get(ready)
                on_answer()
            answers: list[Any] = self._ray.get(asked)
        except self._ray.exceptions.RayError as error:
            raise describe_failure(self._ray, error, "do its part") from error
        return answers

    def close(self) -> None:
        """They are not needed any longer."""
        for actor in self._actors:
            self._ray.kill(actor)


class _Held:
    """One object in a process of its own."""

    def __init__(self, make: Callable[..., object], shared: list[object], *arguments: object) -> None:
        import ray

        self._stack = ExitStack()
        mine = self._stack.enter_context(core())
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {mine})
        self._object = make(ray.get(shared[0]), *arguments)

    def call(self, method: str, *arguments: object) -> object:
        """What a method of the object gives."""
        return getattr(self._object, method)(*arguments)
