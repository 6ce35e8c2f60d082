"""SavedModels: what is refused before TensorFlow loads it, what is loaded, and which signature is run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import bnexport
from bnexport.checking.check import check
from bnexport.cli import app
from bnexport.comparison.references import open_reference
from bnexport.errors import ExportError, InputError, UsageError
from bnexport.frameworks.protocols import Want
from bnexport.frameworks.saved_model import files as saved_model_files, model as saved_model
from bnexport.frameworks.saved_model.operations import COMPUTING
from bnexport.progress import Progress
from bnexport.system import files
from bnexport.system.cache import Cache

pytestmark = pytest.mark.keras

OWNED = "OWNED"
"""What a hostile model writes into the current folder, if it can."""


def save(path: Path, **bodies: Callable[[Any], Any]) -> Path:
    """A SavedModel with a signature for each function of x, an array N x 2."""
    import tensorflow as tf

    def traced(body: Callable[[Any], Any]) -> Any:
        return tf.function(lambda x: {"y": body(x)}, input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])

    module = tf.Module()
    module.functions = {name: traced(body) for name, body in bodies.items()}
    signatures = {name: function.get_concrete_function() for name, function in module.functions.items()}
    tf.saved_model.save(module, str(path), signatures=signatures)
    return path


def first(operation: Callable[[], Any]) -> Callable[[Any], Any]:
    """A function of x that runs an operation first."""

    def body(x: Any) -> Any:
        import tensorflow as tf

        with tf.control_dependencies([operation()]):
            return x * 2.0

    return body


def write_file() -> Any:
    import tensorflow as tf

    return tf.raw_ops.WriteFile(filename=OWNED, contents="hello")


def message_of(path: Path) -> Any:
    return saved_model_files.read(path)[0]


def rewrite(path: Path, change: Callable[[Any], None]) -> Path:
    """Changes the message of a SavedModel in place."""
    message = message_of(path)
    change(message)
    (path / "saved_model.pb").write_bytes(message.SerializeToString())
    return path


def rename_function(message: Any, old: str, new: str) -> None:
    graph = message.meta_graphs[0]
    nodes = [*graph.graph_def.node, *(node for f in graph.graph_def.library.function for node in f.node_def)]
    for node in nodes:
        for value in node.attr.values():
            if value.func.name == old:
                value.func.name = new
    for function in graph.graph_def.library.function:
        if function.signature.name == old:
            function.signature.name = new
    objects = graph.object_graph_def
    if old in objects.concrete_functions:
        objects.concrete_functions[new].CopyFrom(objects.concrete_functions[old])
        del objects.concrete_functions[old]
    for node in objects.nodes:
        if old in node.function.concrete_functions:
            node.function.concrete_functions[:] = [new if n == old else n for n in node.function.concrete_functions]
        if node.bare_concrete_function.concrete_function_name == old:
            node.bare_concrete_function.concrete_function_name = new


def write_while_saving(path: Path) -> Path:
    """A model whose inner function, renamed like TensorFlow's own that save variables, writes a file."""
    import tensorflow as tf

    inner = tf.function(first(write_file))
    save(path, serving_default=lambda x: inner(x))
    graph = message_of(path).meta_graphs[0].graph_def
    names = [f.signature.name for f in graph.library.function if any(n.op == "WriteFile" for n in f.node_def)]
    for name in names:
        rewrite(path, partial(rename_function, old=name, new=f"__inference__traced_save_{name}"))
    return path


def write_in_the_graph(path: Path) -> Path:
    """TensorFlow 1: the operations are nodes of the graph, there are no functions."""
    import tensorflow.compat.v1 as tf1

    with tf1.Graph().as_default() as graph, tf1.Session(graph=graph) as session:
        x = tf1.placeholder(tf1.float32, [None, 2], name="x")
        y = tf1.identity(first(write_file)(x), name="y")
        tf1.saved_model.simple_save(session, str(path), {"x": x}, {"y": y})
    return path


def print_into_a_file() -> Any:
    import tensorflow as tf

    return tf.raw_ops.PrintV2(input="hello", output_stream=f"file://{OWNED}", end="\n")


def write_a_summary() -> Any:
    import tensorflow as tf

    writer = tf.raw_ops.SummaryWriter(shared_name="w", container="")
    return tf.raw_ops.CreateSummaryFileWriter(
        writer=writer, logdir=OWNED, max_queue=1, flush_millis=1, filename_suffix="x"
    )


def debug(x: Any) -> Any:
    import tensorflow as tf

    return tf.raw_ops.DebugIdentityV2(
        input=x * 2.0,
        tfdbg_context_id="a",
        op_name="b",
        output_slot=0,
        tensor_debug_mode=2,
        debug_urls=[f"file://{OWNED}"],
        circular_buffer_size=-1,
        tfdbg_run_id="r",
    )


def count_lines(x: Any) -> Any:
    import tensorflow as tf

    lines = tf.data.TextLineDataset(__file__).reduce(tf.constant(0.0), lambda count, _: count + 1.0)
    return x * 0.0 + lines


def cache_on_disk(x: Any) -> Any:
    import tensorflow as tf

    total = tf.data.Dataset.range(3).cache(OWNED).reduce(tf.constant(0, tf.int64), lambda a, b: a + b)
    return x * 0.0 + tf.cast(total, tf.float32)


def call_python(x: Any) -> Any:
    import tensorflow as tf

    return tf.ensure_shape(tf.numpy_function(lambda value: value, [x], tf.float32), [None, 2])


def save_a_tensor() -> Any:
    import tensorflow as tf

    return tf.raw_ops.SaveV2(prefix=OWNED, tensor_names=["a"], shape_and_slices=[""], tensors=[tf.constant(1.0)])


def read_a_vocabulary(x: Any) -> Any:
    import tensorflow as tf

    table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
    with tf.control_dependencies(
        [
            tf.raw_ops.InitializeTableFromTextFileV2(
                table_handle=table, filename=__file__, key_index=-2, value_index=-1, vocab_size=-1, delimiter="\t"
            )
        ]
    ):
        return x * 2.0


HOSTILE = {
    "WriteFile": lambda path: save(path, serving_default=first(write_file)),
    "WriteFile in the function __inference__traced_save": write_while_saving,
    "WriteFile in the graph": write_in_the_graph,
    "PrintV2": lambda path: save(path, serving_default=first(print_into_a_file)),
    "CreateSummaryFileWriter": lambda path: save(path, serving_default=first(write_a_summary)),
    "DebugIdentityV2": lambda path: save(path, serving_default=debug),
    "TextLineDataset": lambda path: save(path, serving_default=count_lines),
    "CacheDatasetV2": lambda path: save(path, serving_default=cache_on_disk),
    "PyFunc": lambda path: save(path, serving_default=call_python),
    "SaveV2": lambda path: save(path, serving_default=first(save_a_tensor)),
    "InitializeTableFromTextFileV2": lambda path: save(path, serving_default=read_a_vocabulary),
}


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    np.savez(tmp_path / "x.npz", x=np.arange(12, dtype=np.float32).reshape(6, 2))
    return tmp_path / "x.npz"


@pytest.mark.filterwarnings("ignore")  # TensorFlow 1's way to save is deprecated
@pytest.mark.parametrize("words", HOSTILE)
def test_what_may_do_more_than_compute_is_refused(
    words: str, arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is loaded, with the operation's name, where it is and the way round; nothing is written."""
    import tensorflow as tf

    monkeypatch.chdir(tmp_path)
    path = HOSTILE[words](tmp_path / "model")
    monkeypatch.setattr(tf.saved_model, "load", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(InputError, match="may do more than compute") as caught:
        check(path, inputs=arrays)
    assert words in str(caught.value)
    assert "--allow-custom-code" in str(caught.value)
    assert not list(tmp_path.glob(f"{OWNED}*"))


def test_no_operation_of_the_list_leaves_memory() -> None:
    """The list is TensorFlow's own operations, and none of those by which a graph is known to reach files, sockets, processes or Python."""
    from tensorflow.python.framework import op_def_registry

    assert not [name for name in COMPUTING if op_def_registry.get(name) is None]
    words = (
        "File", "Dataset", "Print", "Summary", "Debug", "PyFunc", "Save", "Restore", "Checkpoint", "Reader", "Queue",
        "Iterator", "Send", "Recv", "Remote", "Rpc", "Collective", "Vocab", "LoadAndRemap", "ImportEvent", "Dump",
        "Xla", "TRT", "Abort", "Stage", "Example", "DecodeImage",
    )  # fmt: skip
    assert not [(name, word) for name in COMPUTING for word in words if word in name]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel with a variable and two signatures, none of them serving_default."""
    import tensorflow as tf

    weight = tf.Variable([[1.0, 2.0], [3.0, 4.0]])
    path = tmp_path_factory.mktemp("plain") / "model"
    module = tf.Module()
    module.weight = weight
    spec = [tf.TensorSpec([None, 2], tf.float32, name="x")]
    module.infer = tf.function(lambda x: {"y": tf.matmul(x, weight)}, input_signature=spec)
    module.twice = tf.function(lambda x: {"y": 2.0 * tf.matmul(x, weight)}, input_signature=spec)
    names = {name: getattr(module, name).get_concrete_function() for name in ("infer", "twice")}
    tf.saved_model.save(module, str(path), signatures=names)
    return path


def call_the_saver(message: Any) -> None:
    """Lets the signature's function depend on the call of the function that saves."""
    graph = message.meta_graphs[0]
    save_node = next(n for n in graph.graph_def.node if n.name == graph.saver_def.save_tensor_name.removesuffix(":0"))
    for function in graph.graph_def.library.function:
        if "infer" in function.signature.name and "wrapper" not in function.signature.name:
            call = function.node_def.add()
            call.CopyFrom(save_node)
            call.name = "call"
            del call.input[:]


def write_beside_the_checkpoint(message: Any) -> None:
    """Puts a WriteFile into the function that saves."""
    graph = message.meta_graphs[0].graph_def
    function = next(f for f in graph.library.function if any(n.op == "SaveV2" for n in f.node_def))
    function.node_def.add(name="more", op="WriteFile", input=["file_prefix", "file_prefix"])


def write_while_restoring(message: Any) -> None:
    """Names the function that saves as the one that restores."""
    saver = message.meta_graphs[0].saver_def
    saver.restore_op_name = saver.save_tensor_name.removesuffix(":0")


def restore_another_file(message: Any) -> None:
    """Lets the function that restores take its file name from a constant."""
    graph = message.meta_graphs[0].graph_def
    function = next(f for f in graph.library.function if any(n.op == "RestoreV2" for n in f.node_def))
    constant = next(n for n in function.node_def if n.op == "Const")
    restore = next(n for n in function.node_def if n.op == "RestoreV2")
    restore.input[0] = f"{constant.name}:output:0"


def name_a_function_like_an_operation(message: Any) -> None:
    graph = message.meta_graphs[0].graph_def
    rename_function(message, graph.library.function[0].signature.name, "WriteFile")


def call_what_is_not_there(message: Any) -> None:
    graph = message.meta_graphs[0].graph_def
    caller = next(n for f in graph.library.function for n in f.node_def if "PartitionedCall" in n.op)
    caller.attr["f"].func.name = "somebody_else"


def call_itself(message: Any) -> None:
    for function in message.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if "PartitionedCall" in node.op:
                node.attr["f"].func.name = function.signature.name


def repeat_a_name(message: Any) -> None:
    graph = message.meta_graphs[0].graph_def
    graph.library.function.add().CopyFrom(graph.library.function[0])


def make_tensors_callable(message: Any) -> None:
    """Gives a constant a child that TensorFlow puts into the class of all tensors."""
    import tensorflow as tf

    graph = message.meta_graphs[0]
    objects = graph.object_graph_def
    graph.graph_def.node.add(name="more", op="Const").attr["value"].tensor.CopyFrom(tf.make_tensor_proto([1.0]))
    function = next(n for n, each in enumerate(objects.nodes) if each.WhichOneof("kind") == "function")
    constant = objects.nodes.add()
    constant.constant.operation = "more"
    constant.children.add(node_id=function, local_name="__call__")
    objects.nodes[0].children.add(node_id=len(objects.nodes) - 1, local_name="more")


def make_lists_callable(message: Any) -> None:
    objects = message.meta_graphs[0].object_graph_def
    function = next(n for n, each in enumerate(objects.nodes) if each.WhichOneof("kind") == "function")
    objects.nodes[0].children.add(node_id=len(objects.nodes), local_name="more")
    several = objects.nodes.add()
    several.user_object.identifier = "trackable_list_wrapper"
    several.children.add(node_id=function, local_name="__call__")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (call_the_saver, "is not only called by its saver"),
        (write_beside_the_checkpoint, "WriteFile in the function"),
        (write_while_restoring, "SaveV2 in the function"),
        (restore_another_file, "from a file of its own choice"),
        (name_a_function_like_an_operation, "with the name of an operation"),
        (call_what_is_not_there, "has no function somebody_else"),
        (call_itself, "calls itself"),
        (repeat_a_name, "names occur twice"),
        (make_tensors_callable, "modifies a class of TensorFlow"),
        (make_lists_callable, "modifies a class of TensorFlow"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_only_the_saver_saves(change: Callable[[Any], None], words: str, plain: Path, tmp_path: Path) -> None:
    """Operations of savers are accepted in the functions that the saver definition names, for what TensorFlow uses them for, and nowhere else."""
    path = rewrite(Path(shutil.copytree(plain, tmp_path / "model")), change)
    with pytest.raises(InputError, match=words):
        saved_model.load(path, signature="infer")


def test_what_saves_is_not_loaded(plain: Path) -> None:
    """The copy that TensorFlow gets holds no operation that writes a checkpoint."""
    from bnexport.frameworks.saved_model.safety import refuse_more_than_computing

    message = message_of(plain)
    [graph] = message.meta_graphs
    assert b"SaveV2" in graph.graph_def.SerializeToString()
    refuse_more_than_computing(message, plain)
    assert b"SaveV2" not in graph.graph_def.SerializeToString()


@pytest.mark.filterwarnings("ignore")  # TensorFlow 1's way to save is deprecated
@pytest.mark.parametrize("sharded", [False, True])
def test_models_of_tensorflow_1_pass(sharded: bool, arrays: Path, tmp_path: Path) -> None:
    """Their savers are nodes of the graph, by shards or not; the variables are restored."""
    import tensorflow.compat.v1 as tf1

    path = tmp_path / "model"
    with tf1.Graph().as_default() as graph, tf1.Session(graph=graph) as session:
        x = tf1.placeholder(tf1.float32, [None, 2], name="x")
        weight = tf1.get_variable("w", initializer=[[1.0, 2.0], [3.0, 4.0]], use_resource=sharded)
        y = tf1.matmul(x, weight, name="y")
        session.run(tf1.global_variables_initializer())
        builder = tf1.saved_model.Builder(str(path))
        signature = tf1.saved_model.predict_signature_def({"x": x}, {"y": y})
        builder.add_meta_graph_and_variables(
            session, ["serve"], {"serving_default": signature}, saver=tf1.train.Saver(sharded=sharded)
        )
        builder.save()
    report = check(path, inputs=arrays)
    assert report
    ran = saved_model.load(path).run({"x": np.ones((1, 2), np.float32)})
    np.testing.assert_allclose(ran["y"], [[4.0, 6.0]])


def test_optimizers_and_recurrent_layers_load(tmp_path: Path) -> None:
    """The slot variables of an optimizer, for which TensorFlow has no class, are left out; loops are converted as loops."""
    tf_keras = pytest.importorskip("tf_keras", reason="tf_keras writes such SavedModels")
    net = tf_keras.Sequential([tf_keras.layers.Input((3, 2)), tf_keras.layers.GRU(2), tf_keras.layers.Dense(2)])
    net.compile(tf_keras.optimizers.legacy.Adam(), "mse")
    x = np.random.default_rng(0).random((4, 3, 2), np.float32)
    net.train_on_batch(x, np.zeros((4, 2)))
    net.save(tmp_path / "model", save_format="tf")
    nodes = message_of(tmp_path / "model").meta_graphs[0].object_graph_def.nodes
    assert any(node.slot_variables for node in nodes)
    loaded = saved_model.load(tmp_path / "model")
    [(name, _, _)] = loaded.inputs
    np.testing.assert_allclose(next(iter(loaded.run({name: x}).values())), net.predict(x, verbose=0), atol=1e-6)
    np.savez(tmp_path / "x.npz", **{name: x})
    assert check(tmp_path / "model", inputs=tmp_path / "x.npz")


def test_links_that_leave_the_folder(plain: Path, arrays: Path, tmp_path: Path) -> None:
    """Variables that are a link out of the folder are not read without --trust; nor is a pipe, ever."""
    path = Path(shutil.copytree(plain, tmp_path / "model"))
    index = path / "variables/variables.index"
    index.rename(tmp_path / "elsewhere")
    index.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="a link to a file outside of the folder"):
        check(path, inputs=arrays, signature="infer")
    assert check(path, inputs=arrays, signature="infer", trust=True)
    index.unlink()
    os.mkfifo(index)
    with pytest.raises(InputError, match="regular file"):
        saved_model.load(path, signature="infer", trust=True)


def test_too_large_a_message_is_not_read(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size is looked at before the content."""
    monkeypatch.setattr(saved_model_files, "LARGEST", 100)
    with pytest.raises(InputError, match="too large"):
        saved_model.load(plain)


def test_what_is_loaded_is_what_was_inspected(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is replaced after the inspection is not loaded, and its result is kept for nobody."""
    import tensorflow as tf

    path = Path(shutil.copytree(plain, tmp_path / "model"))
    before = files.sha256(path)
    load = tf.saved_model.load

    def replace_and_load(copy: str) -> Any:
        (path / "saved_model.pb").write_bytes(b"something else")
        (path / "variables/variables.index").write_bytes(b"something else")
        return load(copy)

    monkeypatch.setattr(tf.saved_model, "load", replace_and_load)
    loaded = saved_model.load(path, signature="infer")
    assert loaded.sha256 == before != files.sha256(path)
    np.testing.assert_allclose(loaded.run({"x": np.ones((1, 2), np.float32)})["y"], [[4.0, 6.0]])
    shutil.rmtree(path)
    shutil.copytree(plain, path)
    store = Cache(tmp_path / "cache")
    reference = open_reference(path, Want(signature="infer"), store, Progress())
    (path / "more").write_text("written between the hash and the load")
    with pytest.raises(InputError, match="changed while it was read"):
        reference.description()
    assert not list(tmp_path.glob("cache/??/*"))


def test_signatures_are_chosen_by_name(plain: Path, arrays: Path, tmp_path: Path) -> None:
    """Without serving_default the command to type is shown; --signature chooses, in the exported file it is noted, and what is remembered of one is not taken for the other."""
    with pytest.raises(UsageError, match="found infer, twice") as caught:
        check(plain, inputs=arrays)
    assert f"bnexport check {plain} IMAGES --signature infer" in str(caught.value)
    with pytest.raises(UsageError, match="no signature three: found infer, twice"):
        check(plain, inputs=arrays, signature="three")
    store = Cache(tmp_path / "cache")
    x = {"x": np.ones((1, 2), np.float32)}
    for name, expected in (("infer", [[4.0, 6.0]]), ("twice", [[8.0, 12.0]]), ("infer", [[4.0, 6.0]])):
        reference = open_reference(plain, Want(signature=name), store, Progress())
        np.testing.assert_allclose(reference.run("inference", x)["y"], expected)
        reference.graph(None)
        assert check(plain, inputs=arrays, store=store, signature=name)
    bnexport.export(plain, tmp_path / "twice.onnx", signature="twice")
    import onnx

    metadata = {p.key: p.value for p in onnx.load(tmp_path / "twice.onnx").metadata_props}
    assert json.loads(metadata["bnexport.source"])["signature"] == "twice"


def test_a_signature_is_run_without_functions_beside_it(arrays: Path, tmp_path: Path) -> None:
    """A model for training on devices saves and restores by signatures of its own: the one that infers, chosen by name, is loaded without them; theirs are refused."""
    import tensorflow as tf

    module = tf.Module()
    module.weight = tf.Variable([[1.0, 2.0], [3.0, 4.0]])

    def keep(name: Any) -> Any:
        tf.raw_ops.Save(filename=name, tensor_names=["w"], data=[module.weight.read_value()])
        return {"name": name}

    def restore(name: Any) -> Any:
        module.weight.assign(tf.raw_ops.Restore(file_pattern=name, tensor_name="w", dt=tf.float32))
        return {"w": module.weight.read_value()}

    text = [tf.TensorSpec([], tf.string, name="name")]
    module.infer = tf.function(
        lambda x: {"y": tf.matmul(x, module.weight)}, input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")]
    )
    module.save = tf.function(keep, input_signature=text)
    module.restore = tf.function(restore, input_signature=text)
    signatures = {name: getattr(module, name).get_concrete_function() for name in ("infer", "save", "restore")}
    path = tmp_path / "model"
    tf.saved_model.save(module, str(path), signatures=signatures)
    for refused in ("", "save", "restore"):
        with pytest.raises(InputError, match=r"may do more than compute: (Save|Restore) in the function"):
            saved_model.load(path, signature=refused)
    loaded = saved_model.load(path, signature="infer")
    np.testing.assert_allclose(loaded.run({"x": np.ones((1, 2), np.float32)})["y"], [[4.0, 6.0]])
    assert check(path, inputs=arrays, signature="infer")


def test_an_output_may_be_an_input(arrays: Path, tmp_path: Path) -> None:
    """A signature that gives back what it was given is exported and passes."""
    assert check(save(tmp_path / "model", serving_default=lambda x: x), inputs=arrays)


def test_signature_is_an_option_of_the_commands(plain: Path, arrays: Path, models: Path, tmp_path: Path) -> None:
    """check, export and pack take it; other models than SavedModels have none; a plan may set it."""
    run = CliRunner()
    chosen = ["--signature", "twice", "-q"]
    done = run.invoke(app, ["check", str(plain), "--inputs", str(arrays), "--no-cache", *chosen])
    assert done.exit_code == 0, done.output
    done = run.invoke(app, ["export", str(plain), "-o", str(tmp_path / "m.onnx"), *chosen])
    assert done.exit_code == 0, done.output
    pack = ["pack", str(plain), "--inputs", str(arrays), "-o", str(tmp_path / "bundle"), "--no-cache", *chosen]
    done = run.invoke(app, pack)
    assert done.exit_code == 0, done.output
    recalibrate = ["recalibrate", str(plain), "--inputs", str(arrays), "-o", str(tmp_path / "r.onnx"), *chosen]
    done = run.invoke(app, recalibrate)
    assert done.exit_code == 2
    assert "BatchNormalization" in done.output
    for model in ("tiny_residual.onnx", "tiny_residual.keras"):
        done = run.invoke(app, ["check", str(models / model), str(models / "three"), *chosen])
        assert done.exit_code == 2
        assert "omit --signature" in done.output
    plan = tmp_path / "plan.toml"
    plan.write_text(f'[[check]]\nmodels = ["{plain}"]\ninputs = ["x.npz"]\noptions = {{signature = "twice"}}\n')
    done = run.invoke(app, ["batch", str(plan), "--dry-run", "-q"])
    assert done.exit_code == 0
    assert "signature=twice" in done.output


@pytest.mark.parametrize(
    ("kind", "words"),
    [("table", "uses a lookup table"), ("counter", "changes variables when it runs: found AssignAdd")],
)
def test_what_onnx_cannot_hold_is_said(kind: str, words: str, tmp_path: Path) -> None:
    """A table in memory and a variable that each call changes are accepted and cannot be exported: EX002."""
    import tensorflow as tf

    module = tf.Module()
    module.table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(tf.constant([0, 1], tf.int64), tf.constant([1.0, 2.0])), 0.0
    )
    module.counter = tf.Variable(0.0)
    bodies = {
        "table": lambda x: module.table.lookup(tf.cast(x, tf.int64)),
        "counter": lambda x: x + module.counter.assign_add(1.0),
    }
    function = tf.function(
        lambda x: {"y": bodies[kind](x)}, input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")]
    )
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=function.get_concrete_function())
    with pytest.raises(ExportError, match=f"EX002.*{words}"):
        saved_model.load(tmp_path / "model")
