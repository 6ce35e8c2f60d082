"""The architecture of CONTRIBUTING: which package imports which, and where each framework is imported."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "bnexport"
FILES = sorted(PACKAGE.rglob("*.py"))

# A framework, and the files or packages that may import it (inside functions).
IMPORTERS = {
    "tensorflow": {
        "demo/keras_train.py",
        "exporter/keras_trace.py",
        "exporter/tf2onnx_convert.py",
        "frameworks/keras/on_tensorflow.py",
        "frameworks/keras/wide_resizing.py",
        "frameworks/keras/keras2_child.py",
        "frameworks/keras/tflite_child.py",
        "frameworks/saved_model/model.py",
        "frameworks/saved_model/files.py",
        "frameworks/saved_model/safety.py",
    },
    "tf_keras": {"frameworks/keras/keras2_child.py"},
    "keras": {
        "frameworks/keras/architecture.py",
        "frameworks/keras/float64.py",
        "frameworks/keras/logits.py",
        "frameworks/keras/on_jax.py",
        "frameworks/keras/on_tensorflow.py",
        "frameworks/keras/on_torch.py",
        "frameworks/keras/paths.py",
        "demo/keras_train.py",
        "exporter/keras_trace.py",
        "frameworks/keras/model.py",
        "frameworks/keras/passes.py",
        "frameworks/keras/patch.py",
        "frameworks/keras/recorder.py",
        "frameworks/keras/tflite_child.py",
    },
    "jax": {"frameworks/keras/on_jax.py"},
    "torch": {
        "frameworks/keras/on_torch.py",
        "frameworks/torch/calls.py",
        "frameworks/torch/export.py",
        "frameworks/torch/float64.py",
        "frameworks/torch/marks.py",
        "frameworks/torch/model.py",
        "frameworks/torch/modes.py",
        "frameworks/torch/sources.py",
        "frameworks/torch/weights.py",
    },
    "tf2onnx": {"exporter/tf2onnx_convert.py"},
    "h5py": {"frameworks/keras/model.py", "keras_files"},
    "onnxruntime": {"runtimes/ort_library.py"},
    "model_signing": {"bundles/signatures.py"},
    "uv": {"system/uv.py"},
    "ai_edge_litert": {"runtimes/litert.py"},
    "onnx": {
        "bundles/triton.py",
        "comparison/reference.py",
        "exporter/graph.py",
        "exporter/layers/loops.py",
        "exporter/native.py",
        "exporter/tf2onnx_convert.py",
        "folding/transform.py",
        "frameworks/onnx_file.py",
        "onnx_graph",
        "runtimes/checked_session.py",
        "runtimes/onnx_reference.py",
    },
    "openvino": {"runtimes/openvino.py"},
    "cv2": {"runtimes/opencv.py"},
    "MNN": {"runtimes/mnn.py"},
    "tract": {"runtimes/tract.py"},
    "tritonclient": {"runtimes/server/open_inference.py"},
    "geventhttpclient": {"runtimes/server/open_inference.py"},
    "gevent": {"runtimes/server/open_inference.py"},
    "rich": {"cli", "reporting"},
    "jinja2": {"reporting/html.py"},
    "mlflow": {"reporting/tracking.py"},
    "matplotlib": {"reporting/plots.py"},
    "junitparser": {"reporting/junit.py", "reporting/batch.py"},
    "msgspec": {"bundles/bundle.py", "comparison/reference.py", "batch/plan.py", "batch/results.py"},
    "fsspec": {"datasets/places.py"},
    "pyarrow": {"datasets/manifest.py", "datasets/arrays/tables.py"},
    "soundfile": {"datasets/arrays/audio.py"},
    "ray": {"system/cluster.py"},
    "typer": {"cli"},
}
# The packages whose names and prose keep to the glossary.
PLAIN = [
    "batch",
    "bundles",
    "bundles/recorded",
    "checking",
    "cli",
    "comparison",
    "datasets",
    "datasets/arrays",
    "datasets/identify",
    "demo",
    "environment",
    "exporter",
    "folding",
    "frameworks",
    "keras_files",
    "numerics",
    "numerics/resampling",
    "numerics/tasks",
    "onnx_graph",
    "recalibration",
    "reporting",
    "results",
    "rules",
    "runtimes",
    "runtimes/web",
    "system",
]
PARTICIPLE = re.compile(r"_*(?!feed)[a-z]+ed")
VAGUE = {"done", "found", "held", "known", "place", "said", "told"}
WORDS = re.compile(
    r"\b(?:told|said|heard|houses?|rooms?|doors?|aloud|complaints?|manners|witness|twins?)\b", re.IGNORECASE
)
PUBLIC = {  # names that callers of bnexport use, so that they stay
    "results/health.py": {"told"},
    "results/preprocessing.py": {"changed"},
    "results/verdict.py": {"known"},
    "reporting/health.py": {"told"},
}
HEAVY = (
    "ai_edge_litert",
    "tensorflow",
    "keras",
    "tf_keras",
    "torch",
    "onnx",
    "onnxruntime",
    "openvino",
    "cv2",
    "MNN",
    "tract",
    "matplotlib",
    "ray",
    "mlflow",
    "pyarrow",
    "fsspec",
)

PROSE = (tokenize.STRING, tokenize.COMMENT)


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


def test_imports_point_downwards() -> None:
    """The contracts in pyproject.toml hold: which package may import which."""
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter, "--no-cache"], cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_frameworks_are_imported_late_and_in_few_files(path: Path) -> None:
    """A framework is imported inside functions, in its own files only."""
    inside = path.relative_to(PACKAGE).as_posix()
    for name, at_load in imports(ast.parse(path.read_text(encoding="utf-8"))):
        package = name.split(".")[0]
        if package in IMPORTERS:
            assert any(inside == importer or inside.startswith(f"{importer}/") for importer in IMPORTERS[package]), (
                f"{inside} imports {package}"
            )
        if package in HEAVY:
            assert not at_load, f"{inside} imports {package} when it is loaded"


def doubtful_names(tree: ast.AST) -> Iterator[str]:
    """Variables, parameters and functions with a vague name, and functions that are named by a participle."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in VAGUE:
            yield node.id
        elif isinstance(node, ast.arg) and node.arg in VAGUE:
            yield node.arg
        elif (
            isinstance(node, ast.FunctionDef)
            and (node.name in VAGUE or PARTICIPLE.fullmatch(node.name))
            and not any(ast.unparse(decorator) == "property" for decorator in node.decorator_list)
        ):
            yield node.name


@pytest.mark.parametrize(
    "path",
    [path for package in PLAIN for path in sorted((PACKAGE / package).glob("*.py"))],
    ids=lambda p: p.relative_to(PACKAGE).as_posix(),
)
def test_names_and_prose_are_plain(path: Path) -> None:
    """Names say what they hold or do, and no text has a word that the glossary replaces."""
    text, public = path.read_text(encoding="utf-8"), PUBLIC.get(path.relative_to(PACKAGE).as_posix(), set())
    assert set(doubtful_names(ast.parse(text))) <= public
    prose = (t.string for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type in PROSE)
    assert {word.lower() for part in prose for word in WORDS.findall(part)} <= public


def test_files_are_small_and_named() -> None:
    """No file above 300 lines, and none that is named after nothing."""
    for path in FILES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, path
        assert path.stem not in {"utils", "helpers", "common", "manager", "misc"}


ANYS = 50
"""How many `Any` the signatures have: each is a value that the type checker does not look at, so there are never more."""


def test_signatures_have_few_anys() -> None:
    """The number of `Any` in the signatures of functions and methods does not grow; where it falls, the ceiling follows."""
    annotations = [
        annotation
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for annotation in [
            node.returns,
            *(each.annotation for each in ast.walk(node.args) if isinstance(each, ast.arg)),
        ]
        if annotation is not None
    ]
    anys = [name for annotation in annotations for name in ast.walk(annotation) if isinstance(name, ast.Name)]
    assert sum(name.id == "Any" for name in anys) <= ANYS


@pytest.mark.parametrize(
    "arguments",
    [["-c", "import bnexport"], ["-m", "bnexport", "--help"], ["-m", "bnexport", "--version"]],
    ids=" ".join,
)
def test_importing_loads_no_framework(arguments: list[str]) -> None:
    """Importing bnexport, its help and its version load none of the heavy packages."""
    done = subprocess.run([sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True)
    loaded = {
        line.rsplit("|", 1)[-1].strip().split(".")[0]
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "bnexport" in loaded
    assert not loaded & {*HEAVY, "numpy", "PIL"}


def test_help_imports_little() -> None:
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
    with pytest.raises(AttributeError, match="exports"):
        bnexport.exports  # noqa: B018 - the access is the test
