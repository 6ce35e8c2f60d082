"""Edits on graphs, each against ONNX' own reference evaluator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import EncodeError
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from bnexport.errors import InputError, MachineError
from bnexport.onnx_graph import finish, metadata, outputs, protobuf, tensors, weights
from bnexport.onnx_graph.sites import own_parameters, sites, sites_with_computed_parameters
from bnexport.onnx_graph.training_mode import training_mode_graph

RNG = np.random.default_rng(0)


def batch_normalization(rank: int, opset: int = 18, epsilon: float = 0.25) -> onnx.ModelProto:
    shape = ", ".join(["N", "3", "4", "5", "6"][:rank])
    model = parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : {opset}]>
        g (float[{shape}] x) => (float[{shape}] y) {{
            [bn] z = BatchNormalization <epsilon = {epsilon}> (x, gamma, beta, mean, var)
            y = Relu(z)
        }}""")
    for name, low in (("gamma", 0.5), ("beta", -0.5), ("mean", -1), ("var", 0.5)):
        model.graph.initializer.append(numpy_helper.from_array(RNG.uniform(low, low + 1, 3).astype(np.float32), name))
    return model


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("rank", [2, 3, 4, 5])
def test_the_twin_is_batch_normalization_by_the_batch(rank: int, opset: int) -> None:
    """The twin computes, in every rank and operator set, what the formula says in float64; its statistics are the batch's."""
    model = batch_normalization(rank, opset)
    twin = training_mode_graph(model)
    onnx.checker.check_model(twin, full_check=True)
    x = RNG.normal(1, 2, (7, 3, 4, 5, 6)[:rank]).astype(np.float32)
    y, mean, var = ReferenceEvaluator(twin).run(["y", "bn/batch_mean", "bn/batch_var"], {"x": x})
    stored = weights.initializers(model)
    axes = tuple(a for a in range(rank) if a != 1)
    wide = (1, 3, *[1] * (rank - 2))
    x64 = x.astype(float)
    expected = (x64 - x64.mean(axes, keepdims=True)) / np.sqrt(x64.var(axes, keepdims=True) + 0.25) * stored[
        "gamma"
    ].reshape(wide) + stored["beta"].reshape(wide)
    np.testing.assert_allclose(y, np.maximum(expected, 0), atol=2e-6)  # float32 rounding of values up to 3
    np.testing.assert_allclose(mean, x64.mean(axes), atol=1e-6)
    np.testing.assert_allclose(var, x64.var(axes), rtol=1e-5)


def test_the_twin_leaves_frozen_nodes_alone() -> None:
    """A frozen site keeps its moving statistics."""
    model = batch_normalization(4)
    metadata.write(model.graph.node[0], {"frozen": True})
    assert [n.op_type for n in training_mode_graph(model).graph.node] == ["BatchNormalization", "Relu"]


def test_sites_are_read_in_full() -> None:
    """A site knows its tensors, epsilon, channels and what the metadata adds."""
    model = batch_normalization(4)
    metadata.write(model.graph.node[0], {"momentum": 0.9, "frozen": False})
    [site] = sites(model)
    assert (site.name, site.x, site.y, site.mean, site.epsilon, site.channels, site.momentum, site.frozen) == (
        "bn",
        "x",
        "z",
        "mean",
        0.25,
        3,
        0.9,
        False,
    )


def test_a_computed_statistic_leaves_no_sites() -> None:
    """A BatchNormalization node whose statistics are not stored is named, and no statistics of that graph can be read."""
    model = batch_normalization(4)
    del model.graph.initializer[2]
    model.graph.input.append(onnx.helper.make_tensor_value_info("mean", onnx.TensorProto.FLOAT, [3]))
    own_parameters(model)
    assert sites_with_computed_parameters(model) == ["bn"]
    assert sites(model) == []


def test_training_mode_nodes_are_no_sites() -> None:
    """A node that was exported in training mode has no moving statistics to speak of."""
    model = batch_normalization(4)
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("training_mode", 1))
    assert sites(model) == []


def test_attach_folds_what_only_moves_data() -> None:
    """Transpose and Squeeze(Reshape(...)) of weights vanish; names stay; two uses of one weight share it, two forms do not."""
    model = parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 18]>
        g (float[N, 2] x, float[3, 2] kernel, float[3] bias, float[9] unused) => (float[N, 3] y)
        <int64[2] shape = {1, 3}> {
            t1 = Transpose <perm = [1, 0]> (kernel)
            t2 = Transpose <perm = [1, 0]> (kernel)
            row = Reshape(bias, shape)
            a = MatMul(x, t1)
            b = MatMul(x, t2)
            c = Add(a, row)
            d = Add(b, bias)
            y = Add(c, d)
        }""")
    kernel, bias = RNG.normal(size=(3, 2)).astype(np.float32), RNG.normal(size=3).astype(np.float32)
    x = RNG.normal(size=(4, 2)).astype(np.float32)
    [before] = ReferenceEvaluator(model).run(
        None, {"x": x, "kernel": kernel, "bias": bias, "unused": np.zeros(9, np.float32)}
    )
    weights.attach(model, {"kernel": kernel, "bias": bias, "unused": np.zeros(9, np.float32)})
    onnx.checker.check_model(model, full_check=True)
    assert [i.name for i in model.graph.input] == ["x"]
    assert [n.op_type for n in model.graph.node] == ["MatMul", "MatMul", "Add", "Add", "Add"]
    assert {t.name: tuple(t.dims) for t in model.graph.initializer} == {
        "kernel": (2, 3),
        "bias#2": (1, 3),
        "bias": (3,),
    }
    np.testing.assert_array_equal(ReferenceEvaluator(model).run(None, {"x": x})[0], before)


@pytest.mark.parametrize(("value", "kept"), [("0.0", True), (None, True), ("1.0", False)])
def test_zero_pads_before_max_pool_become_negative_zero(value: str | None, kept: bool) -> None:
    """Only a zero is rewritten, only in front of a MaxPool, and the result does not change."""
    third, stored = (
        (", value", f"<float value = {{{value}}}, int64[8] pads = {{0,0,1,1,0,0,1,1}}>")
        if value
        else ("", "<int64[8] pads = {0,0,1,1,0,0,1,1}>")
    )
    model = parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 18]>
        g (float[1, 2, 6, 6] x) => (float[1, 2, 3, 3] y)
        {stored} {{
            p = Pad(x, pads{third})
            y = MaxPool <kernel_shape = [3, 3], strides = [2, 2]> (p)
        }}""")
    x = -1 - RNG.random((1, 2, 6, 6)).astype(np.float32)
    [before] = ReferenceEvaluator(model).run(None, {"x": x})
    finish.keep_pads(model)
    onnx.checker.check_model(model, full_check=True)
    used = weights.initializers(model)[model.graph.node[0].input[2]]
    assert bool(np.signbit(used)) is kept
    np.testing.assert_array_equal(ReferenceEvaluator(model).run(None, {"x": x})[0], before)
    import onnxruntime

    [ours] = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": x}
    )
    np.testing.assert_array_equal(ours, before)


@pytest.mark.parametrize("op", ["Softmax", "Sigmoid"])
def test_logits_are_found_without_metadata(op: str) -> None:
    """The tensor before the last softmax or sigmoid is found through Identity, and can be given out."""
    model = parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 18]>
        g (float[N, 3] x) => (float[N, 3] y) {{
            z = Neg(x)
            p = {op}(z)
            y = Identity(p)
        }}""")
    assert outputs.squashing_functions(model) == {"y": ("z", op.lower())}
    more = tensors.with_outputs(model, ["z"])
    assert [o.name for o in more.graph.output] == ["y", "z"]
    assert [o.name for o in model.graph.output] == ["y"]
    with pytest.raises(InputError, match="no tensor nowhere"):
        tensors.with_outputs(model, ["nowhere"])


def test_metadata_that_is_not_json_is_refused() -> None:
    """A broken entry is an input error that names it."""
    model = batch_normalization(2)
    model.metadata_props.add(key="bnexport.classes", value="{")
    with pytest.raises(InputError, match=r"bnexport\.classes"):
        metadata.read(model, "classes")


def test_parameters_that_are_stored_once_become_each_nodes_own() -> None:
    """Read by two nodes, through Identity, or from a Constant node: afterwards new statistics of one site are not another's; the result is the same."""
    model = parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 18]>
        g (float[N, 3, 4, 4] x) => (float[N, 3, 4, 4] y) {
            beta2 = Identity (beta)
            beta3 = Identity (beta2)
            var3 = Constant <value = float[3] {2.0, 3.0, 4.0}> ()
            [first] a = BatchNormalization (x, gamma, beta, mean, var)
            [second] b = BatchNormalization (a, gamma, beta2, mean, var)
            [third] y = BatchNormalization (b, gamma, beta3, mean, var3)
        }""")
    for name in ("gamma", "beta", "mean", "var"):
        model.graph.initializer.append(numpy_helper.from_array(RNG.uniform(0.5, 1, 3).astype(np.float32), name))
    x = RNG.normal(size=(2, 3, 4, 4)).astype(np.float32)
    before = ReferenceEvaluator(model).run(None, {"x": x})[0]
    assert sites_with_computed_parameters(model) == ["second", "third"]
    own_parameters(model)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_array_equal(ReferenceEvaluator(model).run(None, {"x": x})[0], before)
    found = sites(model)
    assert [site.name for site in found] == ["first", "second", "third"]
    assert len({name for s in found for name in (s.gamma, s.beta, s.mean, s.var)}) == 12


def test_what_the_file_does_not_describe_is_inferred() -> None:
    """Types and shapes of inner tensors, which a stage needs for its inputs."""
    model = batch_normalization(4)
    assert not model.graph.value_info
    tensors.describe(model)
    assert {i.name: tensors.shape(i) for i in model.graph.value_info} == {"z": (None, 3, 4, 5)}


@pytest.mark.parametrize(
    ("error", "largest", "kind", "words"),
    [
        (EncodeError("Failed to serialize proto"), 11, InputError, "the graph is larger than 2 GiB"),
        (EncodeError("Failed to serialize proto"), 12, InputError, r"cannot be written \(Failed to serialize proto\)"),
        (ValueError("a field is missing"), 12, InputError, r"cannot be written \(a field is missing\)"),
        (MemoryError(), 11, MachineError, "there is not enough memory"),
    ],
)
def test_a_graph_that_cannot_be_written_says_why(
    error: Exception, largest: int, kind: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R3: a limit is named only where the weights, here of 12 bytes, are above it; anything else has a reason of its own."""

    class Refusing:
        """As protobuf does with a message that it cannot write: neither the bytes nor their number come out."""

        graph = onnx.GraphProto(initializer=[numpy_helper.from_array(np.zeros(3, np.float32), "w")])

        def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
            raise error

        ByteSize = SerializeToString

    monkeypatch.setattr(protobuf, "LARGEST", largest)
    with pytest.raises(kind, match=words):
        protobuf.serialise(Refusing())  # type: ignore[arg-type]


def test_a_file_holds_the_model_that_was_written(tmp_path: Path) -> None:
    """Also with weights that are stored otherwise than as raw bytes, that are empty, or that have more to say."""
    shape = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])
    graph = helper.make_graph([helper.make_node("Identity", ["a"], ["y"])], "g", [], [shape])
    model = helper.make_model(graph)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.arange(300, dtype=np.float32).reshape(3, 100), "a"))
    graph.initializer.append(helper.make_tensor("fields", TensorProto.FLOAT, [2], [1.0, 2.0]))
    graph.initializer.append(numpy_helper.from_array(np.zeros((0, 3), np.float32), "empty"))
    graph.initializer.append(numpy_helper.from_array(np.float32(3), "scalar"))
    graph.initializer.append(helper.make_tensor("text", TensorProto.STRING, [1], [b"x"]))
    graph.initializer.append(TensorProto(name="nothing", data_type=TensorProto.FLOAT, dims=[0]))
    graph.initializer.append(helper.make_tensor("packed", TensorProto.INT4, [3], b"\x12\x03", raw=True))
    graph.initializer.append(helper.make_tensor("rounded", TensorProto.BFLOAT16, [2], b"\x80\x3f\x00\x40", raw=True))
    described = numpy_helper.from_array(np.ones(200, np.int64), "described")
    described.doc_string = "behind the values"
    graph.initializer.append(described)
    protobuf.write(model, tmp_path / "m.onnx")
    written = (tmp_path / "m.onnx").read_bytes()
    assert onnx.ModelProto.FromString(written) == model
    assert len(written) == len(protobuf.serialise(model))
    model.graph.initializer[0].dims[0] = 4
    with pytest.raises(
        InputError, match="the weight a is damaged: found 1200 bytes; expected 1600 bytes for the shape"
    ):
        protobuf.write(model, tmp_path / "m.onnx")
