"""How large libraries are imported, in a user's process and in one of bnexport's own."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from bnexport.comparison.reference import Reference
from bnexport.comparison.subject import open_subject
from bnexport.progress import Progress
from bnexport.system.imports import without_collection

_OWN = """
import gc, sys
from bnexport.system import imports
imports.own_process()
with imports.without_collection():
    made = [[] for _ in range(1000)]
    assert not gc.isenabled()
assert gc.isenabled() and gc.get_freeze_count() > 1000
try:
    with imports.leave_out(["colorsys"]):
        import colorsys
except ImportError:
    import colorsys
"""


def _import_nothing() -> None:
    assert not gc.isenabled()
    raise ImportError


@pytest.mark.parametrize("enabled", [True, False])
def test_a_users_process_collects_as_before(*, enabled: bool) -> None:
    """Also where the import fails; and nothing of a user's is kept for good."""
    assert gc.isenabled()
    frozen = gc.get_freeze_count()
    try:
        if not enabled:
            gc.disable()
        with pytest.raises(ImportError), without_collection():
            _import_nothing()
        assert gc.isenabled() == enabled
        assert gc.get_freeze_count() == frozen
    finally:
        gc.enable()


def test_a_command_does_not_search_what_it_imported() -> None:
    """What is there stays, and packages that are left out can be imported afterwards."""
    ended = subprocess.run([sys.executable, "-c", _OWN], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("preload", [True, False])
def test_a_model_is_loaded_beside_its_export(models: Path, monkeypatch: pytest.MonkeyPatch, *, preload: bool) -> None:
    """Where it is going to be run; what writes files only leaves the framework out."""
    events: list[str] = []
    graph = Reference.graph
    monkeypatch.setattr(Reference, "preload", lambda _: events.append("preload"))
    monkeypatch.setattr(Reference, "graph", lambda self, beside: events.append("export") or graph(self, beside))
    open_subject(models / "tiny_residual.keras", Progress(), preload=preload)
    assert events == (["preload", "export"] if preload else ["export"])
