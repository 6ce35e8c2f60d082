"""Layers that act in training only: what goes in comes out."""

from __future__ import annotations

from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.registry import emits
from bnexport.keras_files.layers import StoredLayer
from bnexport.keras_files.policies import compute_dtype


@emits("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D")
@emits("AlphaDropout", "GaussianDropout", "GaussianNoise", "ActivityRegularization")
def in_training_only(g: Graph, layer: StoredLayer, inputs: Value) -> Value:  # noqa: ARG001 - the form of an emitter
    """The input itself."""
    return inputs


def images_of(layer: StoredLayer, given: object) -> Value:
    """The images that an image layer is called with.

    Raises:
        NotCovered: it is called with a dictionary of images, labels or boxes.
    """
    if not isinstance(given, Value):
        raise NotCovered(f"the layer {layer.path}, which is called with labels or boxes beside images")
    return given


@emits("CutMix", "Equalization", "MaxNumBoundingBoxes", "MixUp", mask="off")
@emits("RandomBrightness", "RandomColorDegeneration", "RandomColorJitter", "RandomContrast", "RandomCrop", mask="off")
@emits("RandomGrayscale", "RandomHue", "RandomInvert", "RandomPosterization", "RandomSaturation", mask="off")
def augmentation(g: Graph, layer: StoredLayer, data: object) -> Value:  # noqa: ARG001 - the form of an emitter
    """The images themselves."""
    return images_of(layer, data)


@emits("AugMix", "RandAugment", "Solarization", mask="off")
@emits("RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomPerspective", mask="off")
@emits("RandomRotation", "RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom", mask="off")
def floating_augmentation(g: Graph, layer: StoredLayer, data: object) -> Value:
    """The images themselves, in the dtype that the layer computes in."""
    return g.cast(images_of(layer, data), compute_dtype(layer.config.get("dtype")))
