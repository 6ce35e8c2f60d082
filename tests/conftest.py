"""What every test may use. Nothing here needs a network, a GPU or a file outside the repository."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

# Modules are imported when their docstrings are looked through for examples; these two bring libraries that need not be
# there, or do not bear each other (the messages of KServe and of tritonclient have the same names).
collect_ignore = ["kserve_server.py", *([] if find_spec("torch") else ["e2e/torch_nets.py"])]

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it for its workers: text would be shortened to that width
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a shell's background job: commands would ignore it, too
    signal.signal(signal.SIGINT, signal.default_int_handler)
MODELS = Path(__file__).parent.parent / "models"


@pytest.fixture(scope="session", autouse=True)
def own_cache() -> Iterator[None]:
    """Tests, and the commands they start, never read what an earlier run left behind."""
    with tempfile.TemporaryDirectory(prefix="bnexport-tests-") as folder:
        os.environ["BNEXPORT_CACHE_DIR"] = folder
        yield


@pytest.fixture(scope="session")
def models() -> Path:
    """The small models that scripts/make_models.py writes."""
    return MODELS


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A temporary folder whose path is short enough for the sockets of a batch; pytest's own are not always."""
    with tempfile.TemporaryDirectory(prefix="b") as folder:
        yield Path(folder)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """No other processes where a file or two are asked for: starting them takes longer than they save."""
    asked = [Path(argument.split("::")[0]) for argument in config.args]
    return 0 if len(asked) <= 2 and all(path.is_file() for path in asked) else None


LONGEST = (
    "test_demo.py",
    "test_floors.py",
    "test_diagnose.py",
    "test_runtime.py",
    "test_recalibrate.py",
    "test_fuzz.py",
)
"""The files that take minutes."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the files, the longest come first, so that none is left for one process at the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
