"""What is in a .tflite file, read without any library: tensors, operators, and what it takes and gives (schema.fbs of LiteRT, version 3)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bnexport.errors import InputError

TYPES = ("float32", "float16", "int32", "uint8", "int64", "str", "bool", "int16", "complex64", "int8", "float64")
"""The types of tensors, in the order of the schema; later ones have no type in NumPy."""

SOFTMAX, LOGISTIC, DEQUANTIZE, QUANTIZE = 25, 14, 6, 114
"""The operators that are looked for, by their number in the schema."""

_NUMBERED = re.compile(r"output_(\d+)")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a file.

    Args:
        name: in the file; one that occurs twice gets "#2" behind it.
        type: its type, "" where NumPy has none.
        shape: None for an open axis.
        constant: whether the file holds its values.
        scale: of its one step, where it is quantised as a whole; 0 elsewhere.
        zero_point: the integer that stands for zero.
        quantised: whether it has scales at all.
    """

    name: str
    type: str
    shape: tuple[int | None, ...]
    constant: bool
    scale: float
    zero_point: int
    quantised: bool

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """What a user of the tensor sees: real numbers where it is quantised."""
        return np.dtype(np.float32) if self.scale else np.dtype(self.type or np.object_)


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator: its number in the schema, and the tensors that it reads and makes, by position."""

    code: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TfliteFile:
    """The main graph of a file.

    Args:
        tensors: all of them, in the order of the file.
        operators: in the order in which they are executed.
        inputs: the position of each input by its name: that of the signature, where the file has one. Names that are numbered throughout
            (inputs, inputs_1, ...) are in that order: the order in the file says nothing.
        outputs: the same for outputs; those that Keras' converter numbers are in that order.
    """

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]

    @property
    def positions(self) -> dict[str, int]:
        """The position of each tensor by its name, and of inputs and outputs also by theirs."""
        return {tensor.name: at for at, tensor in enumerate(self.tensors)} | {**self.inputs, **self.outputs}

    def before_squashing(self) -> dict[str, int]:
        """For each output that ends in softmax or sigmoid the tensor before it."""
        makers = {made: operator for operator in self.operators for made in operator.outputs}
        logits = {}
        for name, at in self.outputs.items():
            maker = makers.get(at)
            if maker is not None and maker.code in (DEQUANTIZE, QUANTIZE) and maker.inputs:
                maker = makers.get(maker.inputs[0])
            if maker is not None and maker.code in (SOFTMAX, LOGISTIC) and maker.inputs:
                logits[name] = maker.inputs[0]
        return logits


class Table:
    """A table of a FlatBuffer; positions outside of the content raise struct.error."""

    def __init__(self, content: bytes, at: int) -> None:
        self._content, self._at = content, at
        self._vtable = at - _int32(content, at)
        self._size = _uint16(content, self._vtable)

    def field(self, number: int) -> int:
        """Where a field is; 0 where it is left out."""
        entry = 4 + 2 * number
        offset = _uint16(self._content, self._vtable + entry) if entry < self._size else 0
        return self._at + offset if offset else 0

    def number(self, number: int, form: str = "i") -> int:
        """A number; 0 where it is left out."""
        at = self.field(number)
        return int(struct.unpack_from(f"<{form}", self._content, _inside(at))[0]) if at else 0

    def text(self, number: int) -> str:
        """A string; "" where it is left out."""
        start, count = self.vector(number, 1)
        return self._content[start : start + count].decode("utf-8", "replace")

    def numbers(self, number: int, form: str = "i") -> tuple[float, ...]:
        """A vector of numbers."""
        start, count = self.vector(number, struct.calcsize(f"<{form}"))
        return struct.unpack_from(f"<{count}{form}", self._content, start)

    def integers(self, number: int) -> tuple[int, ...]:
        """A vector of integers of 32 bits."""
        return tuple(int(value) for value in self.numbers(number))

    def count(self, number: int) -> int:
        """How many entries a vector has."""
        return self.vector(number, 1)[1]

    def tables(self, number: int) -> Iterator[Table]:
        """A vector of tables."""
        start, count = self.vector(number, 4)
        for at in range(start, start + 4 * count, 4):
            yield Table(self._content, at + _uint32(self._content, at))

    def table(self, number: int) -> Table | None:
        """A table; None where it is left out."""
        at = self.field(number)
        return Table(self._content, at + _uint32(self._content, at)) if at else None

    def vector(self, number: int, size: int) -> tuple[int, int]:
        """Where the entries of a vector begin, each of `size` bytes, and how many there are."""
        at = self.field(number)
        if not at:
            return 0, 0
        start = at + _uint32(self._content, at)
        count = _uint32(self._content, start)
        if start + 4 + size * count > len(self._content):
            raise struct.error("a vector goes beyond the end of the file")
        return start + 4, count


def _inside(at: int) -> int:
    if at < 0:
        raise struct.error("a position before the start of the file")
    return at


def _uint16(content: bytes, at: int) -> int:
    return int(struct.unpack_from("<H", content, _inside(at))[0])


def _uint32(content: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", content, _inside(at))[0])


def _int32(content: bytes, at: int) -> int:
    return int(struct.unpack_from("<i", content, _inside(at))[0])


def is_tflite(head: bytes) -> bool:
    """Whether a file that begins so is a .tflite."""
    return head[4:8] == b"TFL3"


def read_tflite(content: bytes, name: str) -> TfliteFile:
    """The main graph of a file.

    Args:
        content: the file's bytes.
        name: what messages call it.

    Raises:
        InputError: it is not a valid .tflite file.
    """
    try:
        if not is_tflite(content[:8]):
            raise ValueError("it does not begin as one")
        return _read(content)
    except struct.error as error:
        raise InputError(f"{name} is not a valid .tflite file (it is cut off, or damaged)") from error
    except (ValueError, IndexError, OverflowError, MemoryError) as error:
        raise InputError(f"{name} is not a valid .tflite file ({error})") from error


def _read(content: bytes) -> TfliteFile:
    model = Table(content, _uint32(content, 0))
    graph = next(model.tables(2), None)
    if graph is None:
        raise ValueError("it has no graph")
    full = [buffer.count(0) > 0 or buffer.number(1, "Q") > 1 for buffer in model.tables(4)]
    tensors: list[Tensor] = []
    seen: dict[str, int] = {}
    for table in graph.tables(0):
        tensor = _tensor(table, full)
        seen[tensor.name] = count = seen.get(tensor.name, 0) + 1
        tensors.append(tensor if count == 1 else replace(tensor, name=f"{tensor.name}#{count}"))
    codes = [max(code.number(0, "b"), code.number(3)) for code in model.tables(1)]
    operators = [
        Operator(codes[operator.number(0, "I")], operator.integers(1), operator.integers(2))
        for operator in graph.tables(3)
    ]
    inputs, outputs = graph.integers(1), graph.integers(2)
    for at in [*inputs, *outputs, *(at for o in operators for at in (*o.inputs, *o.outputs) if at != -1)]:
        if not 0 <= at < len(tensors):
            raise ValueError("it has a position of a tensor that there is not")
    signature = next((table for table in model.tables(7) if not table.number(4, "I")), None)
    named = [_names(signature, which, tensors) for which in (0, 1)]
    return TfliteFile(
        tuple(tensors),
        tuple(operators),
        _by_number(_ports(inputs, named[0], tensors)),
        _in_order(_ports(outputs, named[1], tensors)),
    )


def _tensor(table: Table, full: Sequence[bool]) -> Tensor:
    kind = table.number(1, "b")
    sides, open_sides = table.integers(0), table.integers(7)
    shape = tuple(None if side < 0 else side for side in (open_sides if len(open_sides) == len(sides) else sides))
    steps = table.table(4)
    scales = steps.numbers(2, "f") if steps is not None else ()
    zeros = steps.numbers(3, "q") if steps is not None else ()
    name, buffer = table.text(3), table.number(2, "I")
    one = len(scales) == 1 and scales[0] > 0 and kind != 0
    return Tensor(
        name,
        TYPES[kind] if 0 <= kind < len(TYPES) else "",
        shape,
        constant=buffer > 0 and full[buffer],
        scale=float(scales[0]) if one else 0.0,
        zero_point=int(zeros[0]) if one and zeros else 0,
        quantised=bool(scales) and kind != 0,
    )


def _names(signature: Table | None, which: int, tensors: Sequence[Tensor]) -> dict[int, str]:
    """The names that the signature gives to tensors, by their positions."""
    if signature is None:
        return {}
    names = {entry.number(1, "I"): entry.text(0) for entry in signature.tables(which)}
    return {at: name for at, name in names.items() if at < len(tensors) and name}


def _ports(positions: Sequence[int], named: Mapping[int, str], tensors: Sequence[Tensor]) -> dict[str, int]:
    ports = {named.get(at, tensors[at].name): at for at in positions}
    return ports if len(ports) == len(positions) else {tensors[at].name: at for at in positions}


def _by_number(inputs: dict[str, int]) -> dict[str, int]:
    """Inputs that are called as the shortest name with a number behind it, as TensorFlow calls those without names, in the order of the numbers."""
    first = min(inputs, key=len, default="")
    numbers = {name: name.removeprefix(f"{first}_") for name in inputs if name != first}
    if not all(number.isdecimal() for number in numbers.values()):
        return inputs
    return {name: inputs[name] for name in sorted(inputs, key=lambda name: int(numbers.get(name, 0)))}


def _in_order(outputs: dict[str, int]) -> dict[str, int]:
    """Outputs that are called output_0, output_1 and so on in that order, before all others."""
    numbers = {name: int(match[1]) for name in outputs if (match := _NUMBERED.fullmatch(name))}
    return {name: outputs[name] for name in sorted(outputs, key=lambda name: numbers.get(name, len(outputs)))}


def with_outputs(content: bytes, positions: Sequence[int]) -> bytes:
    """The file with more tensors among the outputs of its main graph, behind those that it has: a longer list at its end.

    Raises:
        InputError: it is not a valid .tflite file.
    """
    try:
        graph = next(Table(content, _uint32(content, 0)).tables(2))
        outputs, field = graph.integers(2), graph.field(2)
        more = [at for at in dict.fromkeys(positions) if at not in outputs]
        if not more or not field:
            return content
        changed = bytearray(content)
        changed += b"\0" * (-len(changed) % 4)
        struct.pack_into("<I", changed, field, len(changed) - field)
        return bytes(changed + struct.pack(f"<I{len(outputs) + len(more)}i", len(outputs) + len(more), *outputs, *more))
    except (struct.error, StopIteration) as error:
        raise InputError(f"the file is not a valid .tflite file ({error})") from error
