"""State dicts: read without running anything that is in the file, and brought to the names of a module (torch)."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bnexport.errors import InputError, reason
from bnexport.frameworks.torch.files import TorchFile, kind_of
from bnexport.system import files

if TYPE_CHECKING:
    import torch

State = Mapping[str, "torch.Tensor"]

_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights", "params")
"""Under these keys training scripts keep a state dict in a checkpoint, the usual ones first."""

_DEFAULTED = "num_batches_tracked"
"""A counter that files of older releases do not have, and that no output depends on."""

SHOWN = 3


def load_weights(module: torch.nn.Module, path: Path) -> list[str]:
    """Loads a state dict into a module, in place.

    Returns:
        What was changed about the names, one sentence each.

    Raises:
        InputError: it cannot be read, or is no state dict of this module.
    """
    state, notes = _unwrap(_read(path), path)
    wanted = module.state_dict().keys()
    if not _fits(module, state):
        for prefix in _prefixes(state, wanted):
            plain = {name.removeprefix(prefix): value for name, value in state.items()}
            if _fits(module, plain):
                state = plain
                notes.append(f"the prefix {prefix!r} of the names in {path} was removed")
                break
    _refuse_shapes(module, state, path)
    try:
        outcome = module.load_state_dict(dict(state), strict=False)
    except Exception as error:  # whatever a module of somebody's own raises
        raise InputError(f"the weights in {path} cannot be loaded into the module ({reason(error)})") from error
    missing = [name for name in outcome.missing_keys if not name.endswith(_DEFAULTED)]
    if missing or outcome.unexpected_keys:
        raise InputError(
            f"the weights in {path} are not those of the module",
            found=" and ".join(
                part
                for part in (
                    _list("names that the module does not have", outcome.unexpected_keys),
                    _list("no weights for", missing),
                )
                if part
            ),
            fix="name the function that makes the module that was trained",
        )
    return notes


def _list(what: str, names: Iterable[str]) -> str:
    listed = list(names)
    if not listed:
        return ""
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return f"{what} ({', '.join(listed[:SHOWN])}{more})"


def _read(path: Path) -> object:
    import torch

    if files.status(path) is None:
        raise InputError(f"the file {path} does not exist", fix="check the path")
    kind = kind_of(path)
    if kind == TorchFile.SAFETENSORS:
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except Exception as error:  # safetensors has its own
            raise InputError(f"cannot read {path} ({reason(error)})") from error
    if kind != TorchFile.PICKLE:
        raise InputError(
            f"{path} is not a state dict",
            found="another file of PyTorch" if kind else "another kind of file",
            expected="what torch.save(model.state_dict(), path) or safetensors writes",
        )
    try:
        with files.open_regular(path) as stream:
            return torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise InputError(
            f"{path} contains more than weights",
            found=f"a pickled object of the class {named[1]}" if named else reason(error),
            fix="save the weights alone: torch.save(model.state_dict(), 'state.pt')",
        ) from error
    except Exception as error:
        raise InputError(f"cannot read {path} ({reason(error)})") from error


def _unwrap(content: object, path: Path) -> tuple[State, list[str]]:
    """The state dict in a checkpoint, and a note where it is wrapped."""
    if _is_state(content):
        return content, []  # type: ignore[return-value] # _is_state says so
    if isinstance(content, Mapping):
        for key in _WRAPPERS:
            if key in content and _is_state(content[key]):
                return content[key], [f"the weights are those under the key {key!r} of {path}"]
    raise InputError(
        f"{path} is not a state dict",
        found=f"a {type(content).__name__}"
        + (_list(" with the keys", map(str, content)) if isinstance(content, Mapping) else ""),
        expected="tensors by name, as torch.save(model.state_dict(), path) writes them",
    )


def _is_state(value: object) -> bool:
    import torch

    if not isinstance(value, Mapping) or not value:
        return False
    tensors = sum(isinstance(entry, torch.Tensor) for entry in value.values())
    return all(isinstance(key, str) for key in value) and tensors == len(value)


def _fits(module: torch.nn.Module, state: State) -> bool:
    """Whether the names are those of the module."""
    wanted = module.state_dict().keys()
    return {name for name in wanted ^ state.keys() if not name.endswith(_DEFAULTED)} == set()


def _prefixes(state: State, wanted: Iterable[str]) -> list[str]:
    """What stands before a name of the module at the beginning of every name of the file."""
    first = next(iter(state))
    ends = {first.removesuffix(name) for name in wanted if first.endswith(f".{name}")}
    return sorted((prefix for prefix in ends if all(name.startswith(prefix) for name in state)), key=len)


def _refuse_shapes(module: torch.nn.Module, state: State, path: Path) -> None:
    import torch

    for name, own in module.state_dict().items():
        given = state.get(name)
        if given is None or not isinstance(own, torch.Tensor) or torch.nn.parameter.is_lazy(own):
            continue
        if given.shape != own.shape and not (own.ndim == 0 and given.numel() == 1):
            raise InputError(
                f"the weights in {path} are those of another module: {name} has another shape",
                found=str(tuple(given.shape)),
                expected=str(tuple(own.shape)),
                fix="name the function that makes the module that was trained",
            )
