"""Which weights Keras' layers have, in the order in which files store them, and which layers are inside others."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bnexport.keras_files.defaults import Config
from bnexport.keras_files.layers import Structure
from bnexport.keras_files.policies import quantisation_mode

RECURRENT = ("LSTM", "GRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")


def structure_of(kind: str, config: Config) -> Structure | None:
    """The structure of a layer; None for a class that is not Keras' own."""
    describe = _TABLE.get(kind)
    return describe(config) if describe else None


def _with_bias(*names: str, also: tuple[str, ...] = ()) -> Callable[[Config], Structure]:
    def describe(config: Config) -> Structure:
        bias = ("bias",) if config.get("use_bias", True) else ()
        return Structure((*names, *bias, *(also if quantisation_mode(config) == "int8" else ())))

    return describe


def _affine(*fixed: str) -> Callable[[Config], Structure]:
    def describe(config: Config) -> Structure:
        names = ("gamma", config.get("scale", True)), ("beta", config.get("center", True))
        return Structure(tuple(name for name, present in names if present), fixed)

    return describe


def _only(*names: str, parts: Mapping[str, Config] | None = None) -> Callable[[Config], Structure]:
    return lambda _: Structure(names, (), parts or {})


def _einsum_dense(config: Config) -> Structure:
    bias = ("bias",) if config.get("bias_axes") else ()
    return Structure(("kernel", *bias, *(("kernel_scale",) if quantisation_mode(config) == "int8" else ())))


def _embedding(config: Config) -> Structure:
    return Structure(("embeddings", *(("embeddings_scale",) if quantisation_mode(config) == "int8" else ())))


def _reversible_embedding(config: Config) -> Structure:
    matrices = ("embeddings",) if config.get("tie_weights", True) else ("embeddings", "reverse_embeddings")
    if quantisation_mode(config) != "int8":
        return Structure(matrices)
    return Structure(tuple(name for matrix in matrices for name in (matrix, f"{matrix}_scale")))


def _cell(kind: str) -> Callable[[Config], Structure]:
    """The layer around a cell, whose configuration is the layer's own."""

    def describe(config: Config) -> Structure:
        return Structure(parts={"cell": {"class_name": f"{kind}Cell", "config": config | {"name": _cell_name(kind)}}})

    return describe


def _cell_name(kind: str) -> str:
    from bnexport.keras_files.naming import snake_case

    return snake_case(f"{kind}Cell")


def _inside(*keys: str) -> Callable[[Config], Structure]:
    return lambda config: Structure(parts={key: config[key] for key in keys if isinstance(config.get(key), dict)})


def _spectral(config: Config) -> Structure:
    return Structure((), ("vector_u",), _inside("layer")(config).parts)


def _cells(config: Config) -> Structure:
    cells = config.get("cells")
    return Structure(parts={f"cells/{position}": cell for position, cell in enumerate(cells or ())})


def _bidirectional(config: Config) -> Structure:
    forward = config.get("layer")
    backward = config.get("backward_layer") or forward
    parts = {}
    for name, layer in (("forward_layer", forward), ("backward_layer", backward)):
        if isinstance(layer, dict) and isinstance(layer.get("config"), dict):
            inner = dict(layer["config"])
            own = inner.get("name", "")
            if layer is forward and name == "backward_layer":
                inner["go_backwards"] = not inner.get("go_backwards", False)
            prefix = name.removesuffix("layer")
            inner["name"] = own if str(own).startswith(prefix) else f"{prefix}{own}"
            parts[name] = layer | {"config": inner}
    return Structure(parts=parts)


def _einsum_part(name: str, *, bias: bool, dtype: object) -> Config:
    config: Config = {"name": name, "bias_axes": "x" if bias else None}
    if dtype is not None:
        config["dtype"] = dtype
    return {"class_name": "EinsumDense", "config": config}


def _attention_heads(config: Config) -> Structure:
    bias = bool(config.get("use_bias", True))
    names: tuple[str, ...] = ("query", "key", "value", "output")
    if config.get("use_gate"):
        names = ("query", "key", "value", "gate", "output")
    return Structure(
        parts={
            f"{name}_dense": _einsum_part(
                "attention_output" if name == "output" else name, bias=bias, dtype=config.get("dtype")
            )
            for name in names
        }
    )


def _attention(config: Config) -> Structure:
    names: tuple[str, ...] = ("scale",) if config.get("use_scale") else ()
    if config.get("score_mode") == "concat":
        names += ("concat_score_weight",)
    return Structure(names)


def _normalization(config: Config) -> Structure:
    stored = config.get("mean") is None and config.get("variance") is None
    return Structure((), ("mean", "variance", "count") if stored else ())


def _pipeline(config: Config) -> Structure:
    return Structure(parts={f"layers/{position}": part for position, part in enumerate(config.get("layers") or ())})


def _spectrogram(config: Config) -> Structure:
    left_out = {"real": "imag_kernel", "imag": "real_kernel"}.get(str(config.get("mode")))
    return Structure(tuple(name for name in ("real_kernel", "imag_kernel") if name != left_out))


def _layer_normalization(config: Config) -> Structure:
    return Structure(("gamma",)) if config.get("rms_scaling") else _affine()(config)


_TABLE: dict[str, Callable[[Config], Structure]] = {
    "AdditiveAttention": lambda config: Structure(("scale",) if config.get("use_scale", True) else ()),
    "Attention": _attention,
    "BatchNormalization": _affine("moving_mean", "moving_variance"),
    "Bidirectional": _bidirectional,
    "CustomScaleLayer": _only(),
    "Dense": _with_bias("kernel", also=("kernel_scale",)),
    "EinsumDense": _einsum_dense,
    "Embedding": _embedding,
    "GroupNormalization": _affine(),
    "GroupQueryAttention": _attention_heads,
    "GroupedQueryAttention": _attention_heads,
    "LayerNormalization": _layer_normalization,
    "LayerScale": _only("gamma"),
    "MultiHeadAttention": _attention_heads,
    "Normalization": _normalization,
    "PReLU": _only("alpha"),
    "Pipeline": _pipeline,
    "RMSNormalization": _only("scale"),
    "RNN": _inside("cell"),
    "ReversibleEmbedding": _reversible_embedding,
    "STFTSpectrogram": _spectrogram,
    "SeparableConv1D": _with_bias("depthwise_kernel", "pointwise_kernel"),
    "SeparableConv2D": _with_bias("depthwise_kernel", "pointwise_kernel"),
    "SpectralNormalization": _spectral,
    "StackedRNNCells": _cells,
    "TimeDistributed": _inside("layer"),
    **{kind: _cell(kind) for kind in RECURRENT},
    **{f"{kind}Cell": _with_bias("kernel", "recurrent_kernel") for kind in RECURRENT},
    **{
        kind: _with_bias("kernel")
        for kind in (
            *(f"Conv{axes}D{ending}" for axes in (1, 2, 3) for ending in ("", "Transpose")),
            "DepthwiseConv1D",
            "DepthwiseConv2D",
        )
    },
}
