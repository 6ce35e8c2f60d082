"""The contract that every framework keeps, and a framework that somebody else installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from bnexport.errors import BnexportError, InputError, UsageError
from bnexport.frameworks.protocols import Framework, Graph, Mode, ReferenceModel, ShowsLayers, Want, WritesModels
from bnexport.frameworks.registry import FRAMEWORKS, in_memory, recognise

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(4, 3)).astype(np.float32)
BIAS = RNG.normal(size=3).astype(np.float32)
X = RNG.normal(size=(5, 4)).astype(np.float32)


def expected(x: np.ndarray) -> np.ndarray:
    return np.asarray(x.astype(np.float64) @ KERNEL + BIAS)


def linear_onnx(kernel: np.ndarray = KERNEL, bias: np.ndarray = BIAS) -> onnx.ModelProto:
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 18]>
        g (float[N, 4] x) => (float[N, 3] y) { z = MatMul(x, kernel)  y = Add(z, bias) }""")
    model.graph.initializer.extend([numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(bias, "bias")])
    return model


def keras_file(folder: Path) -> Path:
    from bnexport.frameworks.keras.model import load_framework

    load_framework()
    import keras

    layer = keras.layers.Dense(3, name="y")
    net = keras.Sequential([keras.Input((4,), name="x"), layer])
    layer.set_weights([KERNEL, BIAS])
    net.save(folder / "net.keras")
    return folder / "net.keras"


def hostile_keras_file(folder: Path, mark: Path) -> Path:
    from bnexport.frameworks.keras.model import load_framework

    load_framework()
    import keras

    place = str(mark)

    harm = keras.layers.Lambda(lambda x: (__import__("pathlib").Path(place).touch(), x)[1], output_shape=(4,))
    net = keras.Sequential([keras.Input((4,)), harm])
    net.save(folder / "harm.keras")
    mark.unlink(missing_ok=True)
    return folder / "harm.keras"


def keras2_file(folder: Path) -> Path:
    code = """if True:
        import sys, numpy as np, tf_keras
        given, out = sys.argv[1:]
        net = tf_keras.Sequential([tf_keras.Input((4,), name="x"), tf_keras.layers.Dense(3, name="y")])
        values = np.load(given)
        net.layers[-1].set_weights([values["kernel"], values["bias"]])
        net.save(out)
    """
    np.savez(folder / "weights.npz", kernel=KERNEL, bias=BIAS)
    command = [sys.executable, "-c", code, str(folder / "weights.npz"), str(folder / "net.h5")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "net.h5"


def saved_model(folder: Path, before: Callable[[], Any] = list) -> Path:
    from bnexport.frameworks.keras.model import load_framework

    load_framework()
    import tensorflow as tf

    module = tf.Module()
    module.kernel, module.bias = tf.Variable(KERNEL), tf.Variable(BIAS)

    def forward(x: Any) -> Any:
        with tf.control_dependencies(before()):
            return {"y": x @ module.kernel + module.bias}

    module.serve = tf.function(forward, input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    path = folder / "net"
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve.get_concrete_function()})
    return path


def hostile_saved_model(folder: Path, mark: Path) -> Path:
    import tensorflow as tf

    return saved_model(folder, lambda: [tf.raw_ops.WriteFile(filename=str(mark), contents="")])


def onnx_file(folder: Path) -> Path:
    onnx.save(linear_onnx(), folder / "net.onnx")
    return folder / "net.onnx"


def hostile_onnx_file(folder: Path, _: Path) -> Path:
    """A file whose weights are to be read from outside of its folder; nothing else in ONNX acts."""
    model = linear_onnx()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=os.path.relpath("/etc/hostname", folder))
    onnx.save(model, folder / "harm.onnx")
    return folder / "harm.onnx"


def torch_file(folder: Path) -> Path:
    import torch

    layer = torch.nn.Linear(4, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(KERNEL.T))
        layer.bias.copy_(torch.from_numpy(BIAS))
    shapes = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(layer, (torch.from_numpy(X),), dynamic_shapes=shapes), folder / "net.pt2")
    return folder / "net.pt2"


class Act:
    """What makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


def hostile_torch_file(folder: Path, mark: Path) -> Path:
    import torch

    torch.save({"state_dict": Act(mark)}, folder / "harm.pt")
    return folder / "harm.pt"


SAMPLES: dict[str, tuple[Callable[[Path], Path], Callable[[Path, Path], Path]]] = {
    "keras": (keras_file, hostile_keras_file),
    "keras2": (keras2_file, hostile_keras_file),
    "saved-model": (saved_model, hostile_saved_model),
    "onnx": (onnx_file, hostile_onnx_file),
    "torch": (torch_file, hostile_torch_file),
}
"""For bnexport's own: a file of y = x @ KERNEL + BIAS, and one that means harm. Other frameworks bring `example(folder, kernel, bias)`."""


WANTS = {"torch": Want(trust=True)}
"""How files are loaded whose format is a program's."""


@dataclass(frozen=True)
class Case:
    """A framework, and a file that it reads."""

    name: str
    framework: Framework
    path: Path
    model: ReferenceModel

    @property
    def x(self) -> str:
        return self.model.signature.inputs[0].name

    def y(self, x: np.ndarray, model: ReferenceModel | None = None, **how: Any) -> np.ndarray:
        [output] = self.model.signature.outputs
        mode: Mode = "inference"
        return (model or self.model).forward({self.x: x}, **{"mode": mode, **how})[output.name]


OF_KERAS = ("keras", "keras2", "saved-model")
MARKS = {name: [pytest.mark.keras] for name in OF_KERAS} | {
    # torch.export of 2.13 uses what other parts of PyTorch deprecate.
    "torch": [pytest.mark.torch, pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")]
}


@pytest.fixture(
    params=[pytest.param(n, marks=MARKS.get(n, [])) for n in FRAMEWORKS.names()],
    scope="module",
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Each framework that is installed, and is in its place here."""
    name, folder = request.param, tmp_path_factory.mktemp("net")
    framework = FRAMEWORKS.open(name)
    if not framework.about().version:
        pytest.skip("its library is not installed")
    if name in SAMPLES:
        path = SAMPLES[name][0](folder)
    elif hasattr(framework, "example"):
        path = framework.example(folder, KERNEL, BIAS)
    else:
        pytest.skip("it has no method example(folder, kernel, bias), which writes a file for this test")
    return Case(name, framework, path, framework.load(path, WANTS.get(name, Want())))


def test_it_says_what_it_is(case: Case) -> None:
    """A version; a format for its file, and none for others; a model whose facts are in place."""
    about, info = case.framework.about(), case.model.info
    assert about.version
    assert case.framework.recognises(case.path)
    assert isinstance(case.model, ReferenceModel)
    assert isinstance(case.model, Graph) == about.executable
    assert info.parameters in (0, KERNEL.size + BIAS.size)
    assert info.sha256 == "" or len(info.sha256) == 64


def test_a_small_net_is_computed(case: Case) -> None:
    """The output is NumPy's in float64, to float32's rounding, whatever the batch."""
    for batch in (X, X[:1]):
        np.testing.assert_allclose(case.y(batch), expected(batch), atol=1e-6)
    assert case.y(X).dtype == np.float32


def test_float64_is_float64_or_refused(case: Case) -> None:
    """Computed with the same weights, or an InputError: never float32 under another name."""
    try:
        y = case.y(X, dtype="float64")
    except InputError:
        return
    np.testing.assert_allclose(y, expected(X), rtol=1e-13)


def test_the_signature_is_the_models(case: Case) -> None:
    """Shapes with an open batch axis, and dtypes, of input and output."""
    [x], [y] = case.model.signature.inputs, case.model.signature.outputs
    assert (x.shape, x.dtype) == ((None, 4), np.dtype(np.float32))
    assert (y.shape, y.dtype) == ((None, 3), np.dtype(np.float32))


def test_every_mode_is_run_and_no_other(case: Case) -> None:
    """Inference is among them; without BatchNormalization and random layers they are equal. An unknown mode or dtype is an InputError."""
    assert "inference" in case.model.modes
    for mode in case.model.modes:
        np.testing.assert_allclose(case.y(X, mode=mode), expected(X), atol=1e-6)
    with pytest.raises(InputError):
        case.y(X, mode="dreaming")
    with pytest.raises(InputError):
        case.y(X, dtype="float4")


@pytest.mark.parametrize("content", [b"", b"not a model\n", b"PK\x03\x04 not an archive", b"\x08\x01\x12"])
def test_a_foreign_file_is_refused(case: Case, content: bytes, tmp_path: Path) -> None:
    """It is not recognised, and loading it is an InputError of one line; so is a file that there is not."""
    path = tmp_path / "foreign.bin"
    path.write_bytes(content)
    for foreign in (path, tmp_path / "nothing", tmp_path):
        assert case.framework.recognises(foreign) == ""
        with pytest.raises(InputError) as caught:
            case.framework.load(foreign, Want())
        assert "\n" not in str(caught.value)
    assert case.framework.recognises(object()) == ""


def test_what_does_not_fit_is_refused(case: Case) -> None:
    """Text, another shape or rank, and a missing input: an InputError, and the model still works."""
    for x in (np.full((5, 4), "a"), X[:, :3], X[0]):
        with pytest.raises(InputError):
            case.y(x)
    with pytest.raises(InputError):
        case.model.forward({"another": X}, mode="inference")
    np.testing.assert_allclose(case.y(X), expected(X), atol=1e-6)


def test_an_empty_batch_is_empty_or_refused(case: Case) -> None:
    """Never other rows than those that went in."""
    try:
        y = case.y(X[:0])
    except BnexportError:
        return
    assert y.shape == (0, 3)


def test_models_do_not_know_of_each_other(case: Case) -> None:
    """Two at once, the first of which computes what it did before, and goes on when the other is gone."""
    before = case.y(X)
    second = case.framework.load(case.path, WANTS.get(case.name, Want()))
    np.testing.assert_array_equal(case.y(X[::-1], second)[::-1], before)
    del second
    np.testing.assert_array_equal(case.y(X), before)


def test_loading_executes_nothing_of_the_file(case: Case, tmp_path: Path) -> None:
    """A file that would act is refused without `trust`, and leaves no trace; with it, Keras and TensorFlow let it act."""
    if case.name not in SAMPLES:
        pytest.skip("no file of this framework that means harm is known here")
    mark = tmp_path / "mark"
    path = SAMPLES[case.name][1](tmp_path, mark)
    with pytest.raises(InputError):
        case.framework.load(path, Want())
    assert not mark.exists()
    if case.name in ("keras", "saved-model"):
        model = case.framework.load(path, Want(trust=True))
        model.forward({model.signature.inputs[0].name: X}, mode="inference")
        assert mark.exists()


def test_layers_are_shown_in_order(case: Case) -> None:
    """Where a model shows its layers, the last one is the output."""
    if not isinstance(case.model, ShowsLayers):
        pytest.skip("it is run as a whole")
    layers = list(case.model.layers({case.x: X}, mode="inference"))
    np.testing.assert_allclose(layers[-1][1], expected(X), atol=1e-6)


def test_what_it_writes_it_reads(case: Case, tmp_path: Path) -> None:
    """A model in memory that a framework knows is written to a file that it knows."""
    if not isinstance(case.framework, WritesModels):
        pytest.skip("it takes no models in memory")
    model = linear_onnx() if isinstance(case.model, Graph) else getattr(case.model, "loaded").keras  # noqa: B009
    assert case.framework.recognises(model)
    path = tmp_path / f"net{case.framework.suffix}"
    case.framework.write(model, path)
    np.testing.assert_allclose(case.y(X, case.framework.load(path, Want())), expected(X), atol=1e-6)


def test_own_frameworks_are_listed_for_others() -> None:
    """What the registry finds without metadata is what pyproject.toml says."""
    import tomllib

    from bnexport.exporter.protocols import CONVERTERS

    listed = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["entry-points"]
    assert listed["bnexport.frameworks"] == FRAMEWORKS.own
    assert listed["bnexport.converters"] == CONVERTERS.own


def test_a_name_or_a_model_that_there_is_not(models: Path) -> None:
    """The frameworks that are installed are listed; each file has the framework that knows it, an object has none."""
    with pytest.raises(UsageError, match="keras or saved-model or onnx or keras2"):
        FRAMEWORKS.open("kera")
    assert [recognise(models / f"tiny_residual.{s}").name for s in ("h5", "keras", "onnx")] == [
        "keras",
        "keras",
        "onnx",
    ]
    assert in_memory(object()) is None


PLUGIN = '''
from pathlib import Path
import numpy as np
import onnx.parser
from onnx import numpy_helper
from bnexport.errors import InputError
from bnexport.frameworks.protocols import About, ModelInfo, Port, Signature


class Linear:
    """x @ kernel + bias from an .npz file."""

    def about(self):
        return About("1.0", title="Linear")

    def recognises(self, source):
        try:
            with open(source, "rb") as stream, np.load(stream, allow_pickle=False) as file:
                return "linear" if {"kernel", "bias"} <= set(file.files) else ""
        except Exception:
            return ""

    def load(self, source, want):
        if not self.recognises(source):
            raise InputError(f"{source} is no linear model")
        with np.load(source, allow_pickle=False) as file:
            return LinearModel(file["kernel"], file["bias"])

    def example(self, folder, kernel, bias):
        with open(folder / "net.linear", "wb") as stream:
            np.savez(stream, kernel=kernel, bias=bias)
        return folder / "net.linear"


class LinearModel:
    modes = ("inference",)

    def __init__(self, kernel, bias):
        self.kernel, self.bias = kernel, bias
        self.info = ModelInfo(parameters=kernel.size + bias.size)
        f = np.dtype(np.float32)
        self.signature = Signature((Port("x", (None, len(kernel)), f),), (Port("y", (None, len(bias)), f),))

    def forward(self, x, *, mode, dtype="float32", seed=None):
        self.signature.refuse_misfit(x)
        if mode not in self.modes or dtype not in ("float32", "float64") or seed is not None:
            raise InputError("a linear model has one mode")
        kernel, bias, x = (value.astype(dtype) for value in (self.kernel, self.bias, x["x"]))
        return {"y": x @ kernel + bias}


class Bare(Linear):
    """The same under another name, which no converter knows."""

    def recognises(self, source):
        return "bare" if Path(source).suffix == ".bare" and super().recognises(source) else ""


class Broken(Bare):
    def recognises(self, source):
        return "broken" if isinstance(source, Path) and source.suffix == ".broken" else ""

    def load(self, source, want):
        raise KeyError("no such luck")


class Late(Broken):
    def recognises(self, source):
        return "late" if isinstance(source, Path) and source.suffix == ".late" else ""

    def load(self, source, want):
        model = LinearModel(np.ones((4, 3), np.float32), np.ones(3, np.float32))
        model.forward = lambda x, **how: 1 / 0
        return model


class ToOnnx:
    frameworks = frozenset({"linear", "late"})

    def versions(self):
        return {"to-onnx": "2.0"}

    def convert(self, source, known):
        model = source.model
        text = """<ir_version: 10, opset_import: ["" : 18]>
            g (float[N, 4] x) => (float[N, 3] y) { z = MatMul(x, kernel)  y = Add(z, bias) }"""
        graph = onnx.parser.parse_model(text)
        graph.graph.initializer.append(numpy_helper.from_array(model.kernel, "kernel"))
        graph.graph.initializer.append(numpy_helper.from_array(model.bias, "bias"))
        return graph
'''
ENTRIES = """[bnexport.frameworks]
bare = linear_framework:Bare
broken = linear_framework:Broken
gone = nowhere:Nothing
late = linear_framework:Late
linear = linear_framework:Linear
[bnexport.converters]
to-onnx = linear_framework:ToOnnx
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package that registers frameworks and a converter, as an installer leaves it; models lie beside it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "linear_framework.py").write_text(PLUGIN)
    metadata = folder / "linear_framework-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: linear-framework\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRIES)
    np.savez(folder / "model.npz", kernel=KERNEL, bias=BIAS)
    for suffix in ("linear", "bare", "broken", "late"):
        (folder / f"model.{suffix}").write_bytes((folder / "model.npz").read_bytes())
    (folder / "broken.broken").write_bytes(b"nobody knows this")
    (folder / "unknown.bin").write_bytes(b"nobody knows this")
    np.savez(folder / "x.npz", x=X)
    onnx.save(linear_onnx(), folder / "right.onnx")
    onnx.save(linear_onnx(KERNEL * np.float32(1.01)), folder / "wrong.onnx")
    return folder


def run(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bnexport", *arguments],
        env={**os.environ, "PYTHONPATH": str(installed)},
        cwd=installed,
        capture_output=True,
        text=True,
        check=False,
    )


def checked(installed: Path, model: str, *more: str) -> subprocess.CompletedProcess[str]:
    return run(installed, "check", model, "--arrays", "x.npz", "--format", "json", "--no-cache", "-q", *more)


@pytest.mark.parametrize(("deployed", "code"), [("right.onnx", 0), ("wrong.onnx", 1)])
def test_a_framework_of_another_package_is_the_reference(installed: Path, deployed: str, code: int) -> None:
    """The deployed file is held against it, in the tolerance that its own float64 gives; the report names it. One percent off fails."""
    done = checked(installed, "model.bare", "--deployed", deployed)
    assert done.returncode == code, done.stderr
    report = json.loads(done.stdout)
    assert report["model"]["format"] == "bare"
    assert report["environment"]["bare"] == "1.0"
    [comparison] = [c for c in report["comparisons"] if c["reference"] == "bare-inference"]
    assert (comparison["actual"], comparison["passed"]) == ("onnx-inference@cpu", code == 0)
    assert "keras" not in report["environment"]


def test_a_converter_of_another_package_exports(installed: Path) -> None:
    """Without a deployed file its graph is checked, and `export` writes it."""
    done = checked(installed, "model.linear")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {c["reference"] for c in report["comparisons"] if "one by one" not in c["reference"]} == {"linear-inference"}
    assert report["environment"]["to-onnx"] == "2.0"
    written = run(installed, "export", "model.linear", "-o", "made.onnx", "-q")
    assert written.returncode == 0, written.stderr
    assert [i.name for i in onnx.load(installed / "made.onnx").graph.output] == ["y"]


@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        ("broken.broken", 3, "the framework broken failed (KeyError: 'no such luck')"),
        ("model.late", 3, "the framework late failed (ZeroDivisionError: division by zero)"),
        ("unknown.bin", 3, "the framework gone cannot be loaded"),
        ("model.bare", 2, "no installed converter exports models of the framework bare"),
    ],
)
def test_a_plugin_that_fails_is_one_sentence(installed: Path, model: str, code: int, words: str) -> None:
    """Its name and what it raised, no traceback. One that cannot be loaded keeps no other from its files."""
    done = checked(installed, model)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_contract_holds_for_a_framework_of_another_package(installed: Path) -> None:
    """These very tests, run where it is installed: it is among those they are run on, and passes."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", __file__, "-k", "[linear"],
        env={**os.environ, "PYTHONPATH": str(installed)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
