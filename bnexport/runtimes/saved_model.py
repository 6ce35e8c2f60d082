"""A SavedModel folder (tensorflow): one signature as a frozen graph, and its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnexport.errors import InputError, reason
from bnexport.runtimes.quiet import native_output_held
from bnexport.runtimes.traced import Trace

SIGNATURE = "serving_default"
_TOUCHES_FILES = ("ReadFile", "WriteFile", "PyFunc", "EagerPyFunc", "MatchingFiles", "SaveV2", "MergeV2Checkpoints")
"""Operations with which a graph reads or writes files, or calls Python. Saving and restoring itself uses some of them, under names of its own."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class SavedModel:
    """One signature of a SavedModel, its variables frozen into the graph.

    Args:
        path: the folder.
        function: the frozen function; only this file looks inside.
        inputs: name, shape (None for an open axis) and dtype of each input.
        outputs: the names of the outputs, and `OUTPUT/logits` for each that ends in softmax or sigmoid.
        parameters: the number of weights.
        trace: the graph, for the conversion.
    """

    path: Path
    function: Any
    inputs: tuple[tuple[str, tuple[int | None, ...], str], ...]
    outputs: tuple[str, ...]
    parameters: int
    trace: Trace

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by name for one batch."""
        import tensorflow as tf

        values = self.function(*(tf.constant(feeds[name], dtype=dtype) for name, _, dtype in self.inputs))
        return {name: np.asarray(value) for name, value in zip(self.outputs, values, strict=True)}


def load(path: Path, *, trust: bool = False) -> SavedModel:
    """The signature "serving_default" of a SavedModel, or its only one.

    Args:
        path: the folder.
        trust: run it even where it reads or writes files or calls Python.

    Raises:
        InputError: it cannot be read, has no such signature, or would do more than compute.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    if not trust:
        _refuse_side_effects(path)
    try:
        with native_output_held():
            loaded = tf.saved_model.load(str(path))
    except Exception as error:
        raise InputError(f"TensorFlow cannot read the SavedModel {path} ({reason(error)[:200]})") from error
    signatures = dict(loaded.signatures)
    name = SIGNATURE if SIGNATURE in signatures else next(iter(signatures), "")
    if not name or (name != SIGNATURE and len(signatures) > 1):
        raise InputError(
            f"{path} has no signature {SIGNATURE}", found=", ".join(signatures) or "none", fix="export it with one"
        )
    signature = signatures[name]
    frozen = convert_variables_to_constants_v2(signature)
    specs = signature.structured_input_signature[1]
    places = {tensor.op.name: tensor for tensor in frozen.inputs}
    ordered = [next(n for n in specs if place == n or place.endswith(f"_{n}")) for place in places]
    inputs = tuple(
        (n, tuple(None if side is None else int(side) for side in specs[n].shape), specs[n].dtype.name) for n in ordered
    )
    plain = sorted(signature.structured_outputs)  # the order in which a function gives out a dictionary
    fetched = dict(zip(plain, frozen.outputs, strict=True))
    logits = {f"{n}/logits": before for n, t in fetched.items() if (before := _before_squashing(t)) is not None}
    fetched |= logits
    trace = Trace(
        graph_def=frozen.graph.as_graph_def(add_shapes=True),
        inputs=dict(zip([t.name for t in frozen.inputs], ordered, strict=True)),
        outputs={t.name: n for n, t in fetched.items()},
        sites=(),
        weights={},
        logits={n.removesuffix("/logits"): n for n in logits},
        layers=frozenset(),
    )
    return SavedModel(
        path, frozen.prune(frozen.inputs, list(fetched.values())), inputs, tuple(fetched), _count(signature), trace
    )


def _count(signature: Any) -> int:
    return sum(int(v.shape.num_elements() or 0) for v in signature.variables if v.dtype.is_floating)


def _before_squashing(tensor: Any) -> Any | None:
    """The tensor before the softmax or sigmoid that an output ends in."""
    op = tensor.op
    while op.type == "Identity":
        op = op.inputs[0].op
    return op.inputs[0] if op.type in ("Softmax", "Sigmoid") else None


def _refuse_side_effects(path: Path) -> None:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel as Message

    message = Message()
    try:
        message.ParseFromString((path / "saved_model.pb").read_bytes())
    except (OSError, DecodeError) as error:
        raise InputError(f"{path} is a damaged SavedModel ({error})", fix="copy or download it again") from error
    for graph in message.meta_graphs:
        for function in graph.graph_def.library.function:
            if function.signature.name.startswith(("__inference__traced_save", "__inference__traced_restore")):
                continue
            found = sorted({node.op for node in function.node_def} & set(_TOUCHES_FILES))
            if found:
                raise InputError(
                    f"{path} does more than compute: {', '.join(found)}",
                    fix="if you trust where it comes from, pass --trust",
                )
