"""What the outputs of a graph are for, where shape and operators show it beyond doubt.

A softmax over the classes of each pixel of the input is a mask. Rows that are gathered from the boxes of a NonMaxSuppression node are boxes.
An embedding, a sequence or a value looks like any other tensor: these are named in MODEL.toml, or are nothing but numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bnexport.errors import InputError
from bnexport.numerics.tasks.detections import LAYOUTS
from bnexport.onnx_graph import tensors
from bnexport.onnx_graph.outputs import squashing_functions
from bnexport.results.tasks import OutputKind, OutputTask

if TYPE_CHECKING:
    import onnx

_LAYING = {"Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten"}
_GATHERING = {"Gather", "GatherND"}


def output_tasks(model: onnx.ModelProto, stated: Mapping[str, OutputTask], source: str) -> dict[str, OutputTask]:
    """What each output is for: as stated, otherwise as the graph shows it; outputs of which neither says anything are left out.

    Args:
        model: the graph.
        stated: what the sidecar or the metadata states.
        source: where that comes from, for errors.

    Raises:
        InputError: an output is named that the graph does not have, or its shape does not fit its kind.
    """
    outputs = {info.name: tensors.shape(info) for info in model.graph.output}
    for name, task in stated.items():
        for output in (name, task.scores, task.classes):
            if output and output not in outputs:
                raise InputError(
                    f"[outputs.{name}] of {source} names the output {output}, which the model does not have",
                    expected=", ".join(outputs),
                )
        if problem := _misfit(task, outputs[name]):
            raise InputError(
                f"[outputs.{name}] of {source} says {task.kind}, which the output of shape {_written(outputs[name])} is not",
                expected=problem,
            )
    shown = {} if any(t.kind == OutputKind.BOXES for t in stated.values()) else _suppressed_boxes(model)
    return {**_masks(model, outputs), **shown, **stated}


def _misfit(task: OutputTask, shape: tuple[int | None, ...] | None) -> str:
    """What a shape of this kind would be; "" where the shape may be one."""
    if shape is None:
        return ""
    rank = len(shape)
    if task.kind == OutputKind.CLASSES:
        return "" if rank == 2 else "(N, K)"
    if task.kind == OutputKind.EMBEDDING:
        return "" if rank >= 2 else "(N, D)"
    if task.kind == OutputKind.MASK:
        return "" if rank >= 3 else "(N, H, W, K), (N, K, H, W) or (N, H, W)"
    if task.kind == OutputKind.SEQUENCE:
        return "" if rank in (2, 3) else "(N, T) or (N, T, V)"
    if task.kind == OutputKind.BOXES:
        columns = task.columns or LAYOUTS["xyxy"]
        count, more = len(columns), columns[-1] == "scores"
        axes = [side for side in shape[1:] if side is None or (side >= count if more else side == count)]
        return "" if axes and rank <= 4 else f"an axis with the {count} columns {', '.join(columns)}"
    return ""


def _written(shape: tuple[int | None, ...] | None) -> str:
    return f"({', '.join('?' if side is None else str(side) for side in shape or ())})"


def _masks(model: onnx.ModelProto, outputs: Mapping[str, tuple[int | None, ...] | None]) -> dict[str, OutputTask]:
    """The outputs with a softmax over the classes of each pixel of the one image that the graph takes."""
    images = [shape for info in tensors.inputs(model) if (shape := tensors.shape(info)) and len(shape) == 4]
    if len(images) != 1:
        return {}
    tasks = {}
    for name, (_, function) in squashing_functions(model).items():
        shape = outputs.get(name)
        if function != "softmax" or shape is None or len(shape) != 4:
            continue
        axes = [axis for axis, space in ((3, shape[1:3]), (1, shape[2:])) if _is_space_of(space, images[0])]
        if len(axes) == 1 and (shape[axes[0]] or 0) > 1:
            tasks[name] = OutputTask(OutputKind.MASK, axis=axes[0])
    return tasks


def _is_space_of(space: tuple[int | None, ...], image: tuple[int | None, ...]) -> bool:
    """Whether height and width are those of an image, channels last or first, and so many that they are no channels."""
    return None not in space and min(side or 0 for side in space) > 4 and space in (image[1:3], image[2:])


def _suppressed_boxes(model: onnx.ModelProto) -> dict[str, OutputTask]:
    """The output that is gathered from the boxes of a NonMaxSuppression node, with the one that is gathered from its scores."""
    maker = {output: node for node in model.graph.node for output in node.output if output}
    nodes = [node for node in model.graph.node if node.op_type == "NonMaxSuppression" and not node.domain]
    if len(nodes) != 1:
        return {}
    given = {_source(maker, name): name for name in nodes[0].input[:2]}
    shapes = {info.name: tensors.shape(info) for info in model.graph.output}
    gathered: dict[str, list[str]] = {}
    for output in shapes:
        node = maker.get(_source(maker, output))
        if node is not None and node.op_type in _GATHERING and (origin := _source(maker, node.input[0])) in given:
            gathered.setdefault(given[origin], []).append(output)
    boxes, scores = (gathered.get(name, []) for name in nodes[0].input[:2])
    if len(boxes) != 1 or (shape := shapes[boxes[0]]) is None or shape[-1:] != (4,) or len(shape) not in (2, 3):
        return {}
    centred = any(a.name == "center_point_box" and a.i for a in nodes[0].attribute)
    columns = LAYOUTS["cxcywh" if centred else "xyxy"]
    with_scores = scores[0] if len(scores) == 1 and len(shapes[scores[0]] or ()) == len(shape) - 1 else ""
    return {boxes[0]: OutputTask(OutputKind.BOXES, columns, threshold=0.0 if with_scores else None, scores=with_scores)}


def _source(maker: Mapping[str, onnx.NodeProto], name: str) -> str:
    """The tensor that one is made of by operators that only lay it out otherwise."""
    while name in maker and maker[name].op_type in _LAYING and not maker[name].domain:
        name = maker[name].input[0]
    return name
