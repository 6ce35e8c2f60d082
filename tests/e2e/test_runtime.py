"""Whether the runtime or the file is to blame; SavedModel folders; and what a second check does not compute again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from typer.testing import CliRunner

from bnexport import check
from bnexport.checking.optimisations import OPTIMIZERS, smallest
from bnexport.cli import app
from bnexport.errors import InputError
from bnexport.onnx_graph.finish import keep_pads
from bnexport.runtimes.ort_session import Session
from tests.e2e import nets


def padded_pool(value: float) -> onnx.ModelProto:
    """A Pad in front of a MaxPool, and something around them."""
    stored = {
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "value": np.float32(value),
        "kernel": np.random.default_rng(0).normal(size=(4, 2, 1, 1)).astype(np.float32),
        "shift": np.float32(100),
    }
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], name="conv"),
        helper.make_node("Sub", ["c", "shift"], ["s"], name="below_zero"),
        helper.make_node("Pad", ["s", "pads", "value"], ["p"], name="pad"),
        helper.make_node("MaxPool", ["p"], ["m"], name="pool", kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Relu", ["x"], ["r"], name="unrelated"),
        helper.make_node("ReduceMean", ["r"], ["q"], name="mean", axes=[1, 2, 3], keepdims=1),
        helper.make_node("Add", ["m", "q"], ["y"], name="add"),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["N", 2, 6, 6]), ("y", ["N", 4, 3, 3]))
    ]
    initializers = [numpy_helper.from_array(np.asarray(v), n) for n, v in stored.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(1).random((4, 2, 6, 6), dtype=np.float32))
    onnx.save(padded_pool(0.0), tmp_path / "pool.onnx")
    return tmp_path


def test_a_faulty_optimisation_is_named(pool: Path) -> None:
    """RT004 names PadFusion and the pool, on the versions of onnxruntime that have the fault; on others the same file passes."""
    feeds = dict(np.load(pool / "data.npz"))
    right = ReferenceEvaluator(padded_pool(0.0)).run(None, feeds)[0]
    computed = Session(padded_pool(0.0).SerializeToString()).run(feeds, ["y"])["y"]
    faulty = np.abs(computed - right).max() > 1e-3
    report = check(pool / "pool.onnx", inputs=pool / "data.npz")
    assert bool(report) != faulty
    found = {finding.code: finding for finding in report.findings}
    assert ("RT004" in found) == faulty
    if faulty:
        assert {name.replace("_", "") for name in found["RT004"].evidence["optimizers"]} == {"PadFusion"}
        assert found["RT004"].evidence["nodes"] == ["Pad pad", "MaxPool pool"]
        assert "RT005" not in found


def test_the_way_bnexport_writes_it_is_left_alone(pool: Path) -> None:
    """A Pad of -0.0 means the same and is not fused: the check passes on every version."""
    model = padded_pool(0.0)
    keep_pads(model)
    onnx.save(model, pool / "kept.onnx")
    assert check(pool / "kept.onnx", inputs=pool / "data.npz")


@pytest.mark.parametrize("guilty", [{"c"}, {"a", "f"}, set("abcdef")])
def test_what_is_needed_is_found_by_halving(guilty: set[str]) -> None:
    """All that must be switched off together, and nothing else."""
    asked: list[list[str]] = []

    def works(off: object) -> bool:
        asked.append(list(off))  # type: ignore[call-overload]
        return guilty <= set(asked[-1])

    assert set(smallest("abcdef", works)) == guilty
    assert len(asked) <= 5 * len(guilty)


def test_the_optimizers_have_the_names_that_this_onnxruntime_knows() -> None:
    """Most names occur in the library: the list is not another version's."""
    import onnxruntime

    library = next((Path(onnxruntime.__file__).parent / "capi").glob("onnxruntime_pybind11_state*.so")).read_bytes()
    known = [name for name in OPTIMIZERS if name.encode() in library]
    assert len(known) > 0.8 * len(OPTIMIZERS)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel folder, a damaged one, one that writes files, and some arrays."""
    keras = nets._keras()
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("saved")
    net = nets.randomise(nets.BUILDERS["sequential"]())
    net.export(str(folder / "good"), verbose=False)
    np.savez(folder / "data.npz", x=nets.inputs_for(net, 6)[0])
    (folder / "damaged").mkdir()
    (folder / "damaged" / "saved_model.pb").write_bytes(b"\x0a\xff noise")

    class Writer(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3])])
        def __call__(self, x: object) -> object:
            tf.io.write_file("written-by-a-model.txt", "hello")
            return {"y": tf.identity(x)}

    writer = Writer()
    tf.saved_model.save(writer, str(folder / "writer"), signatures=writer.__call__)

    class BatchDependent(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], name="x")])
        def __call__(self, x: object) -> object:
            return {"y": x - tf.reduce_mean(x, axis=0, keepdims=True)}

    batch = BatchDependent()
    tf.saved_model.save(batch, str(folder / "batch"), signatures=batch.__call__)
    assert keras
    return folder


@pytest.mark.keras
def test_a_saved_model_is_exported_and_checked(saved: Path) -> None:
    """Keras cannot load it as a model: parity and batch dependence are checked all the same, on its logits too."""
    report = check(saved / "good", inputs=saved / "data.npz")
    assert report, report.findings
    assert {side.id for side in report.sides} >= {"tensorflow-inference", "onnx-inference@cpu"}
    assert "logits" in {c.tensor for c in report.comparisons}
    assert report.model.format == "savedmodel"
    dependent = check(saved / "batch", inputs=saved / "data.npz")
    assert {finding.code for finding in dependent.findings} >= {"BN006"}


@pytest.mark.keras
@pytest.mark.parametrize(
    ("name", "words"), [("damaged", "damaged SavedModel"), ("writer", "more than compute: WriteFile")]
)
def test_saved_models_that_are_refused(name: str, words: str, saved: Path) -> None:
    """Noise, and graphs that touch files, with a sentence."""
    with pytest.raises(InputError, match=words):
        check(saved / name, inputs=saved / "data.npz")


WITHOUT_TENSORFLOW = """
import sys
sys.modules.update(dict.fromkeys(["tensorflow", "keras", "tf2onnx"]))
from bnexport.cli import main
main()
"""


@pytest.mark.keras
def test_a_second_check_needs_no_tensorflow(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same model and images with another tolerance: from the cache, the same numbers, with TensorFlow out of reach; another batch size, or --no-cache, computes anew, which needs it."""
    monkeypatch.setenv("BNEXPORT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")  # where it is out of reach, another one would be looked for
    command = ["check", str(models / "tiny_residual.keras"), str(models / "three"), "-q", "--format", "json"]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 1, first.output

    def again(*arguments: str) -> subprocess.CompletedProcess[str]:
        blocked = [sys.executable, "-c", WITHOUT_TENSORFLOW, *command, *arguments]
        return subprocess.run(blocked, capture_output=True, text=True, check=False)

    second = again()
    assert second.returncode == 1, second.stderr
    reports = [json.loads(done.stdout) for done in (first, second)]
    for report in reports:
        for side in report["sides"]:
            side.pop("seconds")
    assert reports[0] == reports[1]
    assert again("--rtol", "1").returncode == 1
    for option in (["--batch-size", "1"], ["--no-cache"]):
        refused = again(*option)
        assert refused.returncode == 3, refused.stdout
        assert "tensorflow" in refused.stderr


@pytest.mark.keras
@pytest.mark.slow
def test_resnet50v2_as_others_export_it(tmp_path: Path) -> None:
    """Plain `tf2onnx.convert.from_keras` of the first stage of Keras' ResNet50V2, held against Keras: RT004 with PadFusion and the first pool, where onnxruntime has the fault; the small case above says whether it has."""
    import tensorflow as tf
    import tf2onnx

    whole = nets.FAMILIES["ResNet50V2"]()
    pooled = nets._keras().layers.GlobalAveragePooling2D()(whole.get_layer("conv2_block3_out").output)
    net = nets.randomise(nets._keras().Model(whole.inputs, pooled))
    net.save(tmp_path / "net.keras")
    spec = [tf.TensorSpec(net.inputs[0].shape, tf.float32, name="x")]
    tf2onnx.convert.from_keras(net, spec, opset=17, output_path=str(tmp_path / "net.onnx"))
    np.savez(tmp_path / "data.npz", x=nets.inputs_for(net, 8)[0])
    feeds = {"x": np.random.default_rng(1).random((4, 2, 6, 6), dtype=np.float32)}
    right = ReferenceEvaluator(padded_pool(0.0)).run(None, feeds)[0]
    faulty = np.abs(Session(padded_pool(0.0).SerializeToString()).run(feeds, ["y"])["y"] - right).max() > 1e-3
    report = check(tmp_path / "net.keras", inputs=tmp_path / "data.npz", onnx=tmp_path / "net.onnx")
    found = {finding.code: finding for finding in report.findings}
    assert ("RT004" in found) == faulty
    assert not {"EX001", "EX003", "EX004", "EX005"} & {f.code for f in report.findings if f.severity == "error"}
    if faulty:
        assert {name.replace("_", "") for name in found["RT004"].evidence["optimizers"]} == {"PadFusion"}
        assert [name.rsplit("/", 1)[1] for name in found["RT004"].evidence["nodes"]] == ["Pad", "MaxPool2d"]
        assert all("pool1" in name for name in found["RT004"].evidence["nodes"])
