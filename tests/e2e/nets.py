"""The nets that the export must get right: one builder for each thing that can go wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bnexport.comparison.sides import Runner
from bnexport.results.runs import Mode, Role, RunSpec

Net = Any


def runs_of(run: Callable[..., Any]) -> list[Runner]:
    """The two passes of a Keras model, computed by `run(mode, feeds)`, as sides of a check."""
    modes: tuple[Mode, ...] = ("inference", "training")
    return [
        Runner(RunSpec("keras", mode, "tensorflow", Role.CONTROL), lambda feeds, mode=mode: run(mode, feeds))
        for mode in modes
    ]


def _keras() -> Any:
    from bnexport.frameworks.keras.model import load_framework

    load_framework()
    import keras

    keras.utils.set_random_seed(0)
    return keras


def sequential() -> Net:
    keras = _keras()
    k = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            k.Conv2D(4, 3),
            k.BatchNormalization(),
            k.ReLU(),
            k.GlobalAveragePooling2D(),
            k.Dense(3, "softmax"),
        ]
    )


def nested() -> Net:
    keras = _keras()
    k = keras.layers
    inner = keras.Sequential(
        [keras.Input((8, 8, 3)), k.Conv2D(4, 3, name="conv"), k.BatchNormalization(name="bn")], name="inner"
    )
    second = keras.Sequential(
        [keras.Input((6, 6, 4)), k.Conv2D(4, 3, name="conv"), k.BatchNormalization(name="bn")], name="second"
    )
    x = keras.Input((8, 8, 3))
    y = k.Dense(3, "softmax")(k.Flatten()(second(k.ReLU()(inner(x)))))
    return keras.Model(x, y)


def shared() -> Net:
    keras = _keras()
    k = keras.layers
    bn, conv = k.BatchNormalization(name="shared"), k.Conv2D(3, 3, padding="same", name="twice")
    x = keras.Input((8, 8, 3))
    return keras.Model(x, k.Dense(2)(k.Flatten()(bn(conv(bn(conv(x)))))))


def over_rank(rank: int, axis: int = -1) -> Callable[[], Net]:
    def build() -> Net:
        keras = _keras()
        k = keras.layers
        x = keras.Input((3, 5, 4, 6)[: rank - 1])
        return keras.Model(x, k.Dense(2)(k.Flatten()(k.BatchNormalization(axis=axis)(x * 2.0 + 1.0))))

    return build


def conv1d() -> Net:
    keras = _keras()
    k = keras.layers
    x = keras.Input((16, 3))
    return keras.Model(x, k.Dense(2)(k.Flatten()(k.BatchNormalization()(k.Conv1D(4, 3)(x)))))


def conv3d() -> Net:
    keras = _keras()
    k = keras.layers
    x = keras.Input((6, 6, 6, 2))
    return keras.Model(x, k.Dense(2)(k.Flatten()(k.BatchNormalization()(k.Conv3D(4, 3)(x)))))


def partial(*, scale: bool, center: bool) -> Callable[[], Net]:
    def build() -> Net:
        keras = _keras()
        k = keras.layers
        x = keras.Input((8, 8, 3))
        y = k.BatchNormalization(scale=scale, center=center, epsilon=0.1)(k.Conv2D(4, 3)(x))
        return keras.Model(x, k.Dense(3, "softmax")(k.GlobalAveragePooling2D()(k.ReLU()(y))))

    return build


def half_precision() -> Net:
    keras = _keras()
    k = keras.layers
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        x = keras.Input((8, 8, 3))
        y = k.GlobalAveragePooling2D()(k.ReLU()(k.BatchNormalization()(k.Conv2D(4, 3)(x))))
        return keras.Model(x, k.Dense(3, "softmax", dtype="float32")(y))
    finally:
        keras.mixed_precision.set_dtype_policy(policy)


def random_layers() -> Net:
    keras = _keras()
    k = keras.layers
    x = keras.Input((8, 8, 3))
    y = k.RandomFlip()(k.RandomRotation(0.1)(k.GaussianNoise(0.5)(x)))
    y = k.SpatialDropout2D(0.3)(k.BatchNormalization()(k.Conv2D(4, 3)(y)))
    return keras.Model(x, k.Dense(3, "softmax")(k.Dropout(0.5)(k.Flatten()(y))))


def many_ends() -> Net:
    keras = _keras()
    k = keras.layers
    image, number = keras.Input((8, 8, 3), name="image"), keras.Input((4,), name="number")
    y = k.Concatenate()([k.Flatten()(k.BatchNormalization()(k.Conv2D(4, 3)(image))), k.BatchNormalization()(number)])
    return keras.Model(
        [image, number],
        [k.Dense(3, "softmax", name="kind")(y), k.Dense(1, "sigmoid", name="flag")(y), k.Dense(2, name="place")(y)],
    )


def dict_inputs() -> Net:
    keras = _keras()
    k = keras.layers
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    return keras.Model({"right": right, "left": left}, k.BatchNormalization()(left - 2.0 * right))


def frozen() -> Net:
    keras = _keras()
    net = sequential()
    net.layers[1].trainable = False
    assert isinstance(net.layers[1], keras.layers.BatchNormalization)
    return net


def grouped() -> Net:
    keras = _keras()
    k = keras.layers
    x = keras.Input((8, 8, 6))
    y = k.BatchNormalization()(k.Conv2D(6, 3, groups=3)(x))
    y = k.BatchNormalization()(k.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(y))
    y = k.BatchNormalization()(k.SeparableConv2D(4, 3)(k.Conv2DTranspose(5, 3, strides=2, padding="same")(y)))
    return keras.Model(x, k.Dense(3, "softmax")(k.Flatten()(k.Activation("gelu")(y))))


def negative_pool() -> Net:
    """A zero pad before a max pool over negative values: what onnxruntime 1.31's PadFusion gets wrong."""
    keras = _keras()
    k = keras.layers
    x = keras.Input((8, 8, 3))
    y = k.MaxPooling2D(3, strides=2)(k.ZeroPadding2D()(-1.0 - k.ReLU()(k.BatchNormalization()(x))))
    return keras.Model(x, k.Dense(2)(k.Flatten()(y)))


BUILDERS: dict[str, Callable[[], Net]] = {
    "sequential": sequential,
    "nested": nested,
    "shared": shared,
    "rank2": over_rank(2),
    "rank3": over_rank(3),
    "rank4": over_rank(4),
    "rank5": over_rank(5),
    "rank3-axis1": over_rank(3, 1),
    "rank4-axis1": over_rank(4, 1),
    "rank4-axis2": over_rank(4, 2),
    "rank5-axis1": over_rank(5, 1),
    "conv1d": conv1d,
    "conv3d": conv3d,
    "no-scale": partial(scale=False, center=True),
    "no-center": partial(scale=True, center=False),
    "neither": partial(scale=False, center=False),
    "mixed-float16": half_precision,
    "random-layers": random_layers,
    "many-ends": many_ends,
    "dict-inputs": dict_inputs,
    "frozen": frozen,
    "grouped": grouped,
    "negative-pool": negative_pool,
}


def family(name: str, size: int, **settings: Any) -> Callable[[], Net]:
    def build() -> Net:
        keras = _keras()
        return getattr(keras.applications, name)(input_shape=(size, size, 3), classes=4, weights=None, **settings)

    return build


# Small inputs, and small variants where there are: every family's own building blocks. Not so small that the last layers have one
# position for each image: batch statistics of a handful of values amplify rounding more than any tolerance allows.
FAMILIES: dict[str, Callable[[], Net]] = {
    "ResNet50": family("ResNet50", 64),
    "ResNet50V2": family("ResNet50V2", 64),
    "VGG16": family("VGG16", 32, include_top=False, pooling="avg"),
    "MobileNet": family("MobileNet", 64, alpha=0.25),
    "MobileNetV2": family("MobileNetV2", 64, alpha=0.35),
    "MobileNetV3Small": family("MobileNetV3Small", 64, alpha=1.0),
    "MobileNetV3Large": family("MobileNetV3Large", 64, minimalistic=True),
    "EfficientNetB0": family("EfficientNetB0", 64),
    "EfficientNetV2B0": family("EfficientNetV2B0", 64),
    "DenseNet121": family("DenseNet121", 64),
    "InceptionV3": family("InceptionV3", 107),
    "InceptionResNetV2": family("InceptionResNetV2", 107),
    "Xception": family("Xception", 71),
    "NASNetMobile": family("NASNetMobile", 64),
    "ConvNeXtTiny": family("ConvNeXtTiny", 64),
}

FULL_SIZE = [
    "ResNet50",
    "ResNet50V2",
    "VGG16",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "DenseNet121",
    "InceptionV3",
    "Xception",
    "NASNetMobile",
]


def randomise(net: Net, seed: int = 0) -> Net:
    """Every BatchNormalization parameter gets values of its own, so that a swap of two would show."""
    keras, rng = _keras(), np.random.default_rng(seed)
    for layer in net._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.moving_mean.shape
            layer.moving_mean.assign(rng.normal(0, 0.1, shape))
            layer.moving_variance.assign(rng.uniform(0.5, 2, shape))
            for weight, low in ((layer.gamma, 0.5), (layer.beta, -0.2)):
                if weight is not None:
                    weight.assign(rng.uniform(low, low + 1, shape))
    return net


def inputs_for(net: Net, count: int, seed: int = 0, *, low: float = -1.0, high: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(low, high, (count, *(d or 64 for d in t.shape[1:]))).astype("float32") for t in net.inputs]
