"""The house stands as CONTRIBUTING draws it: who may import whom, and which door each framework has."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent / "bnexport"
FILES = sorted(HOUSE.rglob("*.py"))

BELOW = {
    "runtimes",
    "graph",
    "images",
    "sidecar",
    "cache",
    "bundle",
    "held",
    "files",
    "installed",
    "numerics",
    "errors",
}

# A room and the rooms it may look into. Always downwards.
MAY_IMPORT = {
    "cli": {
        "cli",
        "batch",
        "confined",
        "jobs",
        "subjects",
        "report",
        "numerics",
        "images",
        "cache",
        "files",
        "errors",
    },
    "batch": {"batch", "cluster", "confined", "cache", "images", "files", "numerics", "errors"},
    "confined": {"errors"},
    "cluster": {"confined", "errors"},
    "jobs": {"jobs", "cluster", "recalibration", "parity", "subjects", *BELOW},
    "recalibration": {"recalibration", "subjects", *BELOW},
    "parity": {"parity", "subjects", *BELOW},
    "subjects": {"subjects", *BELOW},
    "report": {"report", "numerics", "errors"},
    "runtimes": {"runtimes", "files", "installed", "numerics", "errors"},
    "graph": {"graph", "numerics", "errors"},
    "cache": {"files", "errors"},
    "images": {"images", "files", "numerics", "errors"},
    "sidecar": {"files", "numerics", "errors"},
    "bundle": {"held", "files", "numerics", "errors"},
    "held": {"files", "errors"},
    "files": {"errors"},
    "installed": {"errors"},
    "numerics": {"numerics", "errors"},
    "errors": set(),
    "__main__": {"cli"},
    "__init__": {"cli", "errors", "jobs", "subjects", "numerics"},
}

# A framework, and the files in which it may be imported (inside functions).
DOORS = {
    "tensorflow": {
        "runtimes/keras_model.py",
        "runtimes/keras_passes.py",
        "runtimes/keras_train.py",
        "runtimes/saved_model.py",
        "runtimes/saved_model_files.py",
        "runtimes/saved_model_safety.py",
        "runtimes/keras_trace.py",
        "runtimes/tf2onnx_convert.py",
        "runtimes/keras2_child.py",
    },
    "tf_keras": {"runtimes/keras2_child.py"},
    "keras": {
        "runtimes/keras_model.py",
        "runtimes/keras_passes.py",
        "runtimes/keras_patch.py",
        "runtimes/keras_recorder.py",
        "runtimes/keras_train.py",
        "runtimes/keras_trace.py",
    },
    "tf2onnx": {"runtimes/tf2onnx_convert.py"},
    "h5py": {
        "runtimes/keras_model.py",
        "runtimes/keras_config.py",
        "runtimes/keras_container.py",
        "runtimes/keras_weights.py",
    },
    "onnxruntime": {"runtimes/ort_session.py"},
    "onnx": {
        "graph",
        "runtimes/tf2onnx_convert.py",
        "subjects/onnx_file.py",
        "subjects/reference.py",
    },
    "rich": {"cli", "report"},
    "jinja2": {"report/html.py"},
    "mlflow": {"report/tracking.py"},
    "matplotlib": {"report/plots.py"},
    "junitparser": {"report/junit.py", "report/batch.py"},
    "msgspec": {"bundle.py", "subjects/reference.py", "batch/plan.py", "batch/results.py"},
    "fsspec": {"images/places.py"},
    "pyarrow": {"images/manifest.py"},
    "ray": {"cluster.py"},
    "typer": {"cli"},
}
HEAVY = ("tensorflow", "keras", "tf_keras", "onnx", "onnxruntime", "matplotlib", "ray", "mlflow", "pyarrow", "fsspec")


def room(path: Path) -> str:
    inside = path.relative_to(HOUSE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def imports(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Every imported module, and whether the import runs when the file is loaded."""

    def walk(node: ast.AST, at_load: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, at_load) for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                yield from ((f"{child.module}.{alias.name}", at_load) for alias in child.names)
            elif isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
                continue
            else:
                yield from walk(
                    child, at_load and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                )

    return walk(tree, True)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(HOUSE).as_posix())
def test_imports_go_downwards(path: Path) -> None:
    """A file imports only from its own room and from the rooms below it; runtimes never import each other."""
    here = room(path)
    for name, _ in imports(ast.parse(path.read_text(encoding="utf-8"))):
        parts = name.split(".")
        if parts[0] != "bnexport" or len(parts) < 2 or parts[1] == "__version__":
            continue
        assert parts[1] in MAY_IMPORT[here], f"{path.name} imports {name}"
        if here == "runtimes" and parts[1] == "runtimes":
            shared = {
                "quiet",
                "exclusive",
                "traced",
                "keras_patch",
                "keras_config",
                "keras_container",
                "keras_installed",
                "keras_defaults",
                "keras_repairs",
                "keras_weights",
                "keras_recorder",
            }
            halves = {"saved_model_files", "saved_model_operations", "saved_model_part", "saved_model_safety"}
            imported = set(parts[2:])
            assert imported & shared or (imported & halves and path.stem.startswith("saved_model")), (
                f"{path.name} imports another runtime, {name}"
            )


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(HOUSE).as_posix())
def test_frameworks_enter_late_and_by_their_own_door(path: Path) -> None:
    """A framework is imported inside functions, in its own files only."""
    inside = path.relative_to(HOUSE).as_posix()
    for name, at_load in imports(ast.parse(path.read_text(encoding="utf-8"))):
        package = name.split(".")[0]
        if package in DOORS:
            assert any(inside == door or inside.startswith(f"{door}/") for door in DOORS[package]), (
                f"{inside} imports {package}"
            )
        if package in HEAVY:
            assert not at_load, f"{inside} imports {package} when it is loaded"


def test_rooms_are_small_and_named() -> None:
    """No file above 300 lines, and no room that is called after nothing."""
    for path in FILES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, path
        assert path.stem not in {"utils", "helpers", "common", "manager", "misc"}


@pytest.mark.parametrize(
    "arguments",
    [["-c", "import bnexport"], ["-m", "bnexport", "--help"], ["-m", "bnexport", "--version"]],
    ids=" ".join,
)
def test_the_front_door_loads_no_framework(arguments: list[str]) -> None:
    """Importing bnexport, its help and its version load none of the heavy packages."""
    done = subprocess.run([sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True)
    loaded = {
        line.rsplit("|", 1)[-1].strip().split(".")[0]
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "bnexport" in loaded
    assert not loaded & {*HEAVY, "numpy", "PIL"}


def test_the_front_door_is_light() -> None:
    """Help imports little beyond what the two packages it is made of import themselves (a count: seconds would be a guess)."""

    def modules(*arguments: str) -> int:
        return subprocess.run(
            [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True
        ).stderr.count("import time:")

    assert modules("-m", "bnexport", "--help") < 2 * modules("-c", "import typer, rich")


def test_public_names_exist() -> None:
    """Every name that bnexport promises can be had, and nothing else pretends to be."""
    import bnexport

    assert sorted(bnexport.__all__) == bnexport.__all__ == dir(bnexport)
    for name in bnexport.__all__:
        assert getattr(bnexport, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'exports'"):
        bnexport.exports  # noqa: B018 - the access is the test
