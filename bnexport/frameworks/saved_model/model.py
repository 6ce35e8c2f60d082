"""A SavedModel folder (tensorflow): one signature as a frozen graph, and its outputs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import BnexportError, ExportError, InputError, MachineError, UsageError, reason
from bnexport.frameworks.keras.traced import Trace
from bnexport.frameworks.saved_model import files as saved_model_files, safety as saved_model_safety
from bnexport.frameworks.saved_model.files import shown
from bnexport.frameworks.saved_model.part import leave_out_other_functions
from bnexport.results.actions import spell_options
from bnexport.system.quiet import hold_native_output
from bnexport.types import Array

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow.types.experimental import ConcreteFunction

SIGNATURE = "serving_default"
"""What is run where no signature is named."""


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
        signature: the name of the signature.
        sha256: of the folder as it was when it was copied (`bnexport.system.files.sha256`).
    """

    path: Path
    function: ConcreteFunction
    inputs: tuple[tuple[str, tuple[int | None, ...], str], ...]
    outputs: tuple[str, ...]
    parameters: int
    trace: Trace
    signature: str
    sha256: str

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by name for one batch.

        Raises:
            InputError: TensorFlow cannot run it on such values.
            MachineError: it takes more memory than there is.
        """
        import tensorflow as tf

        try:
            values = self.function(*(tf.constant(feeds[name], dtype=dtype) for name, _, dtype in self.inputs))
        except tf.errors.ResourceExhaustedError as error:
            raise MachineError(f"{self.path} requires more memory than is available ({reason(error)[:200]})") from error
        except (tf.errors.OpError, TypeError, ValueError) as error:
            raise InputError(f"TensorFlow cannot run {self.path} ({shown(reason(error))})") from error
        return {name: np.asarray(value) for name, value in zip(self.outputs, values, strict=True)}


def load(path: Path, *, signature: str = "", trust: bool = False) -> SavedModel:
    """One signature of a SavedModel.

    What TensorFlow loads is a private copy of what was inspected, without the variables of optimizers.

    Args:
        path: the folder.
        signature: its name; "" for "serving_default", or the only one.
        trust: load it even where it may do more than compute, or where its files are links that leave the folder.

    Raises:
        InputError: it cannot be read, has no such signature, or may do more than compute.
        UsageError: it has several signatures and none was chosen, or none of the name that was.
    """
    message, read_as = saved_model_files.read(path, trust=trust)
    saved_model_files.keep_serving_graph(message, path)
    if not trust:
        if signature:
            leave_out_other_functions(message.meta_graphs[0], signature)
        saved_model_safety.refuse_more_than_computing(message, path)
    name = _chosen(saved_model_files.signatures(message), signature, path)
    saved_model_files.drop_optimizer_slots(message)
    with saved_model_files.private_copy(message, path, read_as, trust=trust) as (copy, digest):
        try:
            with hold_native_output():
                return _load(copy, path, name, digest)
        except BnexportError:
            raise
        except Exception as error:
            cause = f"{type(error).__name__}: {reason(error)}".replace(str(copy), str(path))
            raise InputError(f"TensorFlow cannot read the SavedModel {path} ({shown(cause)})") from error


def _chosen(names: list[str], wanted: str, path: Path) -> str:
    listed = ", ".join(shown(name) for name in names) or "none"
    if wanted:
        if wanted not in names:
            raise UsageError(
                f"{path} has no signature {wanted}",
                found=listed,
                fix=f"choose one of them with {spell_options(signature='NAME')}",
            )
        return wanted
    if SIGNATURE in names or len(names) == 1:
        return SIGNATURE if SIGNATURE in names else names[0]
    if not names:
        raise InputError(
            f"{path} has no signature",
            fix="export it with a signature: tf.saved_model.save(model, path, signatures=...)",
        )
    raise UsageError(
        f"{path} has several signatures, but none is named {SIGNATURE}",
        found=listed,
        fix=f"choose one, for example: bnexport check {shlex.quote(str(path))} IMAGES --signature {shlex.quote(names[0])}",
    )


def _load(copy: Path, path: Path, name: str, digest: str) -> SavedModel:
    """The signature of that name in a private copy of the folder `path`."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    loaded = tf.saved_model.load(str(copy))  # its variables live as long as it does
    signature = loaded.signatures[name]
    _refuse_changing_variables(signature, name, path)
    frozen = convert_variables_to_constants_v2(signature, lower_control_flow=False)
    if any(tensor.dtype == tf.resource for tensor in frozen.inputs):
        raise ExportError(
            f"EX002: the signature {shown(name)} of {path} uses a lookup table or another resource, which ONNX does not support",
            fix="export the part of the model after it",
        )
    specs = signature.structured_input_signature[1]
    ordered = [_argument(tensor.op.name, specs, path) for tensor in frozen.inputs]
    inputs = tuple(
        (n, tuple(None if side is None else int(side) for side in specs[n].shape), specs[n].dtype.name) for n in ordered
    )
    plain = sorted(signature.structured_outputs)  # the order in which a function gives out a dictionary
    with frozen.graph.as_default():  # an output that is an input needs a name of its own
        fetched = {
            n: tf.identity(t) if t.op.type == "Placeholder" else t for n, t in zip(plain, frozen.outputs, strict=True)
        }
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
    function = frozen.prune(frozen.inputs, list(fetched.values()))
    return SavedModel(path, function, inputs, tuple(fetched), _count(signature), trace, name, digest)


def _refuse_changing_variables(signature: ConcreteFunction, name: str, path: Path) -> None:
    functions = signature.graph.as_graph_def().library.function
    operations = {op.type for op in signature.graph.get_operations()}
    operations |= {node.op for function in functions for node in function.node_def}
    changing = operations & {"AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"}
    if changing:
        raise ExportError(
            f"EX002: the signature {shown(name)} of {path} changes variables when it runs",
            found=", ".join(sorted(changing)),
            fix="export the model without random layers, or choose another signature with --signature NAME",
        )


def _argument(placeholder: str, specs: Mapping[str, tf.TensorSpec], path: Path) -> str:
    """The name of the input that a placeholder of the frozen function stands for."""
    for name in sorted(specs, key=len, reverse=True):
        if placeholder == name or placeholder.endswith(f"_{name}"):
            return name
    raise InputError(
        f"the input {shown(placeholder)} of {path} does not belong to the signature", found=", ".join(specs)
    )


def _count(signature: ConcreteFunction) -> int:
    return sum(int(v.shape.num_elements() or 0) for v in signature.variables if v.dtype.is_floating)


def _before_squashing(tensor: tf.Tensor) -> tf.Tensor | None:
    """The tensor before the softmax or sigmoid that an output ends in."""
    op = tensor.op
    while op.type == "Identity":
        op = op.inputs[0].op
    return op.inputs[0] if op.type in ("Softmax", "Sigmoid") else None
