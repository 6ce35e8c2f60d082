"""Layers at sizes, axes and dtypes at which TensorFlow, NumPy and the runtimes part: as Keras computes them, or refused."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnexport.errors import ExportError, InputError
from bnexport.exporter.export import export
from bnexport.exporter.native import graph_of
from bnexport.keras_files.read import read_file
from tests.exported import agree, export_of, randomise

keras = pytest.importorskip("keras")
L = keras.layers
pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`:UserWarning")]

FIRST = {"data_format": "channels_first", "padding": "same"}
BIASED: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "Conv1D": (lambda: L.Conv1D(6, 3, **FIRST), (3, 6)),
    "Conv2D": (lambda: L.Conv2D(6, 3, **FIRST), (3, 5, 6)),
    "Conv3D": (lambda: L.Conv3D(6, 3, **FIRST), (3, 5, 5, 6)),
    "Conv2DTranspose": (lambda: L.Conv2DTranspose(6, 3, **FIRST), (3, 5, 6)),
    "DepthwiseConv2D": (lambda: L.DepthwiseConv2D(3, depth_multiplier=2, **FIRST), (3, 5, 6)),
    "SeparableConv2D": (lambda: L.SeparableConv2D(6, 3, **FIRST), (3, 5, 6)),
    "EinsumDense": (lambda: L.EinsumDense("bcde,ye->bdyc", (None, 6, None), bias_axes="y"), (5, 6, 4)),
    "MultiHeadAttention": (lambda: lambda x: L.MultiHeadAttention(6, 1, name="heads")(x, x), (6, 4)),
}
"""Layers whose bias has as many numbers as another axis of their output is long, and that axis is one that TensorFlow prefers."""


@pytest.mark.parametrize("case", BIASED)
def test_a_bias_that_the_backends_of_keras_add_along_different_axes_is_refused(case: str, tmp_path: Path) -> None:
    """Keras on TensorFlow computes something else than on JAX there: no file could be right for both."""
    build, shape = BIASED[case]
    x = keras.Input(shape)
    with pytest.raises(ExportError, match=r"^EX002: .* adds the bias of the layer .* of size 6: build the model"):
        export_of(keras.Model(x, build()(x)), tmp_path)


@pytest.mark.parametrize("case", [case for case in BIASED if "Conv" in case])
def test_other_widths_with_the_channels_first_are_exported(case: str, tmp_path: Path) -> None:
    """As Keras computes them."""
    build, shape = BIASED[case]
    x = keras.Input((*shape[:-1], 7))
    agree(keras.Model(x, build()(x)), tmp_path)


SIZES = ((9, 8, 7), (8, 8, 8), (5, 7, 3), (4, 1, 6), (1, 1, 1), (13, 12, 11))
LEAPS: dict[str, tuple[Callable[[], Any], int]] = {
    "Conv1D": (lambda: L.Conv1D(3, 1, strides=4, padding="same"), 1),
    "Conv2D": (lambda: L.Conv2D(3, 1, strides=4, padding="same"), 2),
    "Conv2D, one axis": (lambda: L.Conv2D(3, (4, 1), strides=3, padding="same"), 2),
    "Conv2D, channels first": (lambda: L.Conv2D(3, 2, strides=4, use_bias=False, **FIRST), 2),
    "DepthwiseConv2D": (lambda: L.DepthwiseConv2D(2, strides=4, padding="same"), 2),
    "MaxPooling1D": (lambda: L.MaxPooling1D(1, strides=3, padding="same"), 1),
    "MaxPooling2D": (lambda: L.MaxPooling2D((1, 3), strides=(2, 4), padding="same"), 2),
    "MaxPooling3D": (lambda: L.MaxPooling3D(1, strides=2, padding="same"), 3),
    "AveragePooling2D": (lambda: L.AveragePooling2D(2, strides=3, padding="same"), 2),
    "AveragePooling3D": (lambda: L.AveragePooling3D(2, strides=(3, 4, 1), padding="same"), 3),
    "operation": (lambda: lambda x: keras.ops.average_pool(x, 2, 4, "same", data_format="channels_last"), 2),
}
"""Strides longer than the window, along axes of open size: the layer, and how many axes an image has."""


@pytest.mark.parametrize("case", LEAPS)
def test_windows_that_leave_out_some_of_an_image_of_open_size(case: str, tmp_path: Path) -> None:
    """Onnxruntime pads by less than nothing for SAME_UPPER there: it fails, or computes something else."""
    build, axes = LEAPS[case]
    layer, rng = build(), np.random.default_rng(0)
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    x = keras.Input((3, *[None] * axes) if first else (*[None] * axes, 3), name="x")
    model = keras.Model(x, layer(x))
    for sides in SIZES:
        shape = (3, *sides[:axes]) if first else (*sides[:axes], 3)
        agree(model, tmp_path, inputs={2: {"x": rng.normal(size=(2, *shape)).astype("float32")}})


def test_small_images_of_open_size_are_not_cropped_to_something_else(tmp_path: Path) -> None:
    """Keras resizes images that are smaller than the crop. The graph crops larger ones, and fails on these."""
    import onnxruntime

    x = keras.Input((None, None, 2), name="x")
    model = keras.Model(x, L.CenterCrop(4, 6)(x))
    agree(model, tmp_path, inputs={1: {"x": np.random.default_rng(0).normal(size=(1, 9, 7, 2)).astype("float32")}})
    session = onnxruntime.InferenceSession(export_of(model, tmp_path).SerializeToString())
    with pytest.raises(Exception, match="Reshape"):
        session.run(None, {"x": np.ones((1, 9, 5, 2), np.float32)})


@pytest.mark.parametrize("shape", [(6, 2), (3, 6, 2)])
def test_axes_of_both_signs(shape: tuple[int, ...], tmp_path: Path) -> None:
    """Keras sorts [1, -1] to [-1, 1], and reads the weights, which are stored in that order, as if they were in the other one."""
    x = keras.Input(shape)
    norms = [
        L.LayerNormalization(axis=axes, rms_scaling=rms)(x) for axes in ([1, -1], [-2, 1]) for rms in (False, True)
    ]
    if len(shape) == 2:
        norms = norms[:2]
    agree(keras.Model(x, norms), tmp_path)


def test_the_mask_of_ids_that_are_no_integers(tmp_path: Path) -> None:
    """0.3 has the row of 0, and is not masked."""
    x = keras.Input((4,), name="x")
    y = L.Embedding(5, 3, mask_zero=True)(x)
    ids = np.asarray([[0.3, 1, 2.7, 0], [0, 0, 0.9, 4]], "float32")
    agree(keras.Model(x, [y, L.GlobalAveragePooling1D()(y)]), tmp_path, inputs={2: {"x": ids}})


def test_layers_as_activations(tmp_path: Path) -> None:
    """Layers as the activation of a layer compute in their own dtype."""
    x = keras.Input((5, 4))
    own = {"dtype": "mixed_float16"}
    outputs = [L.Dense(3, activation=L.Activation("gelu"))(x), L.Dense(3, activation=L.Identity())(x)]
    halves = [L.Dense(3, activation=L.ReLU(), **own)(x), L.Conv1D(3, 2, activation=L.Softmax(), **own)(x)]
    agree(keras.Model(x, outputs), tmp_path)
    agree(keras.Model(x, halves), tmp_path, tolerance=2**-9)  # float16 has 11 bits


@pytest.mark.parametrize("dtype", ["uint8", "int16", "bool", "float16", "int64", "float64"])
def test_triangles_of_every_dtype(dtype: str, tmp_path: Path) -> None:
    """Onnxruntime has no Trilu for most of them."""
    x = keras.Input((4, 5), dtype=dtype)
    agree(keras.Model(x, [keras.ops.tril(x), keras.ops.triu(x, 1)]), tmp_path)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2**-9), ("float64", 1e-12), ("float32", 1e-5)])
def test_celu(dtype: str, tolerance: float, tmp_path: Path) -> None:
    """ONNX has it for float32 only."""
    x = keras.Input((4, 5), dtype=dtype)
    agree(keras.Model(x, [L.Activation("celu", dtype=dtype)(x), keras.ops.celu(x, 0.5)]), tmp_path, tolerance=tolerance)


def test_bfloat16(tmp_path: Path) -> None:
    """Onnxruntime runs what is exported, which rounds to bfloat16 where Keras does (8 bits)."""
    own = {"dtype": "mixed_bfloat16"}
    x = keras.Input((8, 8, 3))
    y = L.Conv2D(4, 3, activation="relu", **own)(x)
    y = L.MaxPooling2D(2, **own)(L.BatchNormalization(**own)(y))
    z = L.Dense(3, activation="celu", **own)(L.GlobalAveragePooling2D(**own)(y))
    outputs = [z, L.LayerNormalization(**own)(y), L.Softmax(**own)(y)]
    model = keras.Model(x, [L.Activation("linear", dtype="float32")(output) for output in outputs])
    graph = agree(model, tmp_path, tolerance=2**-6)
    assert "Cast" in {node.op_type for node in graph.graph.node}


def _adapted(axis: Any) -> Any:
    layer = L.Normalization(axis=axis)
    layer.adapt(np.random.default_rng(0).normal(2, 3, (8, 5, 4)).astype("float32"))
    return layer


def _nested() -> Any:
    x, y = keras.Input((5, 4)), keras.Input((5, 4))
    inner = keras.Model(y, L.UnitNormalization(axis=[1, 2])(_adapted(-1)(y)), name="inner")
    return keras.Model(x, inner(x))


def _on(layer: Any, shape: tuple[int, ...] = (5, 4)) -> Any:
    return keras.Sequential([keras.Input(shape), layer])


MISREAD: dict[str, tuple[Callable[[], Any], str]] = {
    "LayerNormalization": (lambda: _on(L.LayerNormalization(axis=[1, 2])), "LayerNormalization kept its axis"),
    "without weights": (lambda: _on(L.LayerNormalization(axis=[1, 2], scale=False, center=False)), "kept its axis, [1, 2]"),
    "UnitNormalization": (lambda: _on(L.UnitNormalization(axis=[1, 2])), "UnitNormalization kept its axis"),
    "Softmax": (lambda: _on(L.Softmax(axis=[1, 2])), "Softmax kept its axis"),
    "Normalization": (lambda: _on(_adapted((1, 2))), "Normalization kept its axis"),
    "Normalization, one mean": (lambda: _on(_adapted(None)), "Normalization kept its axis, []"),
    "TimeDistributed": (lambda: _on(L.TimeDistributed(_adapted(-1)), (2, 5, 4)), "kept its statistics"),
    "nested": (_nested, "kept its statistics"),
}  # fmt: skip
"""Models that Keras 3 cannot load from HDF5 files that it has written, or computes something else with, and what is said."""


@pytest.mark.parametrize("case", MISREAD)
def test_hdf5_files_that_keras_misreads_are_read_as_they_were_written(case: str, tmp_path: Path) -> None:
    """By the exporter and in Keras, as bnexport loads it; the report says so (EX006)."""
    from bnexport.frameworks.keras import model as keras_model

    build, note = MISREAD[case]
    model = build()
    path, x = tmp_path / "model.h5", np.random.default_rng(1).normal(size=(2, *model.input_shape[1:])).astype("float32")
    expected = np.asarray(model(x))
    agree(model, tmp_path, form="h5", random_weights=False)
    loaded = keras_model.load(path)
    np.testing.assert_allclose(np.asarray(loaded.keras(x)), expected, rtol=1e-5, atol=1e-6)
    assert note in "; ".join(loaded.repairs)
    assert read_file(path).repairs == loaded.repairs
    try:
        plain = np.asarray(keras.models.load_model(path, compile=False)(x))
    except ValueError:
        return
    assert np.max(np.abs(plain - expected)) > 0.1, "Keras reads the file now: the repair can go"


def test_hdf5_files_that_keras_reads_are_not_repaired(tmp_path: Path) -> None:
    """A list of one axis, and a Normalization layer of the outermost model."""
    model = keras.Sequential([keras.Input((5, 4)), _adapted(-1), L.LayerNormalization(axis=[2]), L.Softmax(axis=1)])
    agree(model, tmp_path, form="h5", random_weights=False)
    assert read_file(tmp_path / "model.h5").repairs == ()


def test_the_class_that_keras_calls_otherwise_is_loaded_from_hdf5_files(tmp_path: Path) -> None:
    """GroupQueryAttention stands there as GroupedQueryAttention."""
    from bnexport.frameworks.keras import model as keras_model

    x = keras.Input((5, 8))
    model = keras.Model(x, L.GroupQueryAttention(4, 4, 2)(x, x))
    randomise(model)
    model.save(tmp_path / "model.h5")
    value = np.random.default_rng(0).normal(size=(1, 5, 8)).astype("float32")
    loaded = keras_model.load(tmp_path / "model.h5").keras
    np.testing.assert_allclose(np.asarray(loaded(value)), np.asarray(model(value)), atol=1e-6)


def test_operations_in_hdf5_files_are_exported_and_cannot_be_checked(tmp_path: Path) -> None:
    """Keras does not find them; the sentence says what to do."""
    from bnexport.errors import InputError
    from bnexport.frameworks.keras import model as keras_model

    x = keras.Input((5,))
    path = tmp_path / "model.h5"
    keras.Model(x, keras.ops.relu(x + 1)).save(path)
    assert len(graph_of(read_file(path), None).graph.node) == 2
    with pytest.raises(
        InputError, match=r"requires \w+ in the layer .*, which Keras does not find in HDF5 files: .*as \.keras"
    ):
        keras_model.load(path)


@pytest.mark.parametrize("args", [[], [None], ["x"]])
def test_a_nested_model_that_is_called_without_its_input_is_refused(args: list[Any], tmp_path: Path) -> None:
    """With one sentence."""
    from bnexport.errors import InputError

    x, y = keras.Input((5,)), keras.Input((5,))
    path = tmp_path / "model.keras"
    keras.Model(x, keras.Model(y, L.Dense(3)(y), name="inner")(x)).save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    config["config"]["layers"][1]["inbound_nodes"][0]["args"] = args
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(
        InputError, match="the model inner is called with another number of inputs: found 0; expected 1"
    ):
        graph_of(read_file(path), None)


def numbers_of(net: Any, folder: Path, name: str, **values: Any) -> Path:
    """The file of a model in whose configuration a layer has other numbers: none that Keras would write."""
    net.save(folder / "net.keras")
    with zipfile.ZipFile(folder / "net.keras") as whole, zipfile.ZipFile(folder / "damaged.keras", "w") as damaged:
        for part in whole.namelist():
            content = whole.read(part)
            if part == "config.json":
                config = json.loads(content)
                [layer] = [layer for layer in config["config"]["layers"] if layer["config"].get("name") == name]
                layer["config"] |= values
                content = json.dumps(config).encode()
            damaged.writestr(part, content)
    return folder / "damaged.keras"


def test_an_axis_of_size_0_is_named_with_its_layer(tmp_path: Path) -> None:
    """ONNX has no Reshape for it; the sentence names the tensor, the layer and what to do."""
    x = keras.Input((4, 5, 4), name="x")
    path = numbers_of(keras.Model(x, L.GroupNormalization(2, name="l")(x)), tmp_path, "x", batch_shape=[None, 0, 5, 4])
    with pytest.raises(
        ExportError, match=r"^EX002: .*: x, of shape \(N, 0, 5, 4\), has an axis of size 0, .* \(l\): ch"
    ) as e:
        export(path, tmp_path / "net.onnx")
    assert e.value.exit_code == 2
    assert "bug" not in str(e.value)
    assert not (tmp_path / "net.onnx").exists()


def test_numbers_that_no_operator_takes_are_refused_with_their_layer(tmp_path: Path) -> None:
    """A window of size 0, which Keras does not look at before it runs: the layer is named, and only what ONNX says of it."""
    x = keras.Input((9, 8, 3), name="x")
    net = keras.Model(x, keras.ops.max_pool(x, 2, 2))
    path = numbers_of(net, tmp_path, net.operations[-1].name, pool_size=[0, 0])
    expected = rf"^EX002: .*: ONNX refuses an operator: Attribute kernel_shape must .* values \({net.operations[-1].name}\): check"
    with pytest.raises(ExportError, match=expected) as e:
        export(path, tmp_path / "net.onnx")
    assert "op_type" not in str(e.value)


@pytest.mark.parametrize(
    ("height", "words"), [([5, 5], r"Cannot convert .* to a shape"), ("valid", r"Cannot convert .* 'valid'")]
)
def test_what_keras_says_of_a_layer_that_it_cannot_make_is_in_the_sentence(
    height: Any, words: str, tmp_path: Path
) -> None:
    """The line behind "Exception encountered when calling", without its colours."""
    x = keras.Input((9, 8, 3), name="x")
    path = numbers_of(keras.Model(x, L.CenterCrop(4, 4, name="l")(x)), tmp_path, "l", height=height)
    with pytest.raises(InputError, match=rf"when calling CenterCrop\.call\(\)\. {words}") as e:
        export(path, tmp_path / "net.onnx")
    assert "\x1b" not in str(e.value)


@pytest.mark.parametrize("at", [(slice(None), slice(3, 3)), (slice(None), slice(None), slice(0, 0))])
def test_an_output_without_numbers_is_exported(at: tuple[slice, ...], tmp_path: Path) -> None:
    """Where every operator takes an axis of size 0 the file has it, too."""
    x = keras.Input((9, 4), name="x")
    model = export_of(keras.Model(x, x[at] * 2), tmp_path)
    assert 0 in [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim[1:]]
