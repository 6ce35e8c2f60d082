"""What Keras 1 and 2 took where the configuration in a file says nothing, and later versions take otherwise."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

from bnexport.errors import InputError

Config = dict[str, Any]
"""A layer or a whole model as JSON has it; what is in it is whatever the file says."""


def write_out(kind: str, config: Config, text: str, version: tuple[int, ...] | None) -> str:
    """Writes such defaults into the configuration of one layer of an old file.

    Args:
        kind: the class of the layer.
        config: its configuration; changed in place.
        text: the version of the Keras that wrote the file, as it stands in the file.
        version: its first two numbers; None where they are not known.

    Returns:
        What was written out and is worth a note, in words; "" where there is nothing.

    Raises:
        InputError: the file leaves open what the layer computes.
    """
    note = ""
    if kind in ("GRU", "GRUCell") and "reset_after" not in config:
        config["reset_after"] = False
        note = f"{kind}: reset_after=False, the default of its time"
    recurrent = kind in ("LSTM", "GRU", "LSTMCell", "GRUCell")
    if "recurrent_activation" in config or not (recurrent or re.fullmatch(r"ConvLSTM[123]D(Cell)?", kind)):
        return note
    if recurrent and text.endswith("-tf"):
        raise InputError(
            f"the {kind} layer {config.get('name')} has no recurrent_activation",
            found=f"a file written by Keras {text}, which had two defaults",
            fix="load it in the TensorFlow version that wrote it, set recurrent_activation, and save it again",
        )
    if not recurrent or (version or (0,)) < (2, 3):
        config["recurrent_activation"] = "hard_sigmoid"
    return note


def copy_with_defaults(config: Config, text: str, version: tuple[int, ...] | None) -> Config:
    """A copy of the configuration of a whole model by Keras 1 or 2, with these defaults in every layer.

    tf_keras needs it too: it takes what TensorFlow 2 takes. The arguments and errors are those of `write_out`.
    """
    changed = copy.deepcopy(config)
    for entry in entries_in(changed):
        if isinstance(entry.get("class_name"), str) and isinstance(entry.get("config"), dict):
            write_out(entry["class_name"], entry["config"], text, version)
    return changed


def entries_in(value: object) -> Iterator[Config]:
    """Every dictionary in a configuration, itself included; what it holds may be changed on the way."""
    waiting: list[object] = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, dict):
            waiting.extend(part.values())
            yield part
