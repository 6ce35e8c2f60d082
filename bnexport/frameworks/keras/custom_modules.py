"""Classes of a user's own: modules that register them with Keras."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from bnexport.errors import UsageError, reason
from bnexport.frameworks.keras import model as keras_model

NAME_MODULE = "if the model has classes of your own, name the module that registers them with --import: this is a process of its own"
"""What to do where another process does not know a class."""

_IMPORTED: list[str] = []


def imported_modules(*, trust: bool) -> list[str]:
    """The modules that `import_modules` has imported here, which another process imports to know the same classes; none without `trust`."""
    return list(_IMPORTED) if trust else []


def import_modules(modules: Sequence[str], *, trust: bool) -> None:
    """Imports modules that register classes with Keras, also from the current folder, but behind what is installed.

    Raises:
        UsageError: there is no --allow-custom-code, or a module cannot be imported.
        MachineError: TensorFlow is not installed.
    """
    if not trust:
        raise UsageError(
            "--import executes the code of a module",
            fix="if you trust the module and the model, add --allow-custom-code",
        )
    keras_model.load_framework(whole=True)  # with the backend that bnexport needs, before the module imports Keras
    for module in modules:
        import_module(module)
        if module not in _IMPORTED:
            _IMPORTED.append(module)


def import_module(name: str) -> ModuleType:
    """A module, also from the current folder, but behind what is installed.

    Raises:
        UsageError: it cannot be imported.
    """
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise UsageError(
            f"cannot import {name} ({reason(error)})",
            fix="pass the name of a module in this folder or of an installed module, without .py",
        ) from error
