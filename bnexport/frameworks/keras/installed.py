"""Whether Keras is installed, and with which backend it starts; neither is imported here."""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from bnexport.errors import MachineError

EXTRAS = {"tensorflow": "bnexport[keras]", "jax": "bnexport[keras-jax]", "torch": "bnexport[keras-torch]"}
"""The backends on which bnexport runs Keras, in the order in which they are preferred, and the extra that installs each."""

TITLES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
"""What sentences call them."""


def backend_name() -> str:
    """The backend on which Keras runs in this process, or would run.

    What Keras was imported with; or what KERAS_BACKEND or keras.json states; or the first backend that is installed. Keras itself
    writes "tensorflow" into keras.json where nobody chose anything, so that this counts only where TensorFlow is installed.
    """
    config = getattr(sys.modules.get("keras"), "config", None)
    if config is not None:
        return str(config.backend())
    stated, origin = _backend_setting()
    if stated in EXTRAS and not (stated == "tensorflow" and origin != "KERAS_BACKEND"):
        return stated
    return next((name for name in EXTRAS if find_spec(name) is not None), "tensorflow")


def choose_backend(name: str = "") -> str:
    """Lets Keras start with a backend, and notes it where the environment or keras.json states another one.

    Args:
        name: of the backend; "" for `backend_name`.
    """
    name = name or backend_name()
    stated, origin = _backend_setting()
    if stated not in ("", name) and not (stated == "tensorflow" and origin != "KERAS_BACKEND"):
        print(f"note: bnexport runs Keras with {TITLES[name]} ({origin} says {stated})", file=sys.stderr)
    os.environ["KERAS_BACKEND"] = name
    return name


def refuse_absence(name: str = "") -> None:
    """Refuses to go on where Keras or its backend is not installed, without importing them, which takes seconds.

    Args:
        name: of the backend; "" for `backend_name`.

    Raises:
        MachineError: something is missing.
    """
    chosen = name or backend_name()
    if chosen not in EXTRAS:  # Keras is imported with it, and `load_framework` says so
        return
    missing = [package for package in (chosen, "keras", "h5py") if find_spec(package) is None]
    if not missing:
        return
    if name or _backend_setting()[0] == chosen != "tensorflow":
        fix = f"install them with: pip install '{EXTRAS[chosen]}'"
    else:
        usual, *others = EXTRAS.values()
        fix = (
            f"install them with: pip install '{usual}' ({' or '.join(others)} for another backend), "
            "or check an ONNX file, which requires neither"
        )
    raise MachineError(f"{TITLES[chosen]} and Keras are required ({', '.join(missing)} not found)", fix=fix)


def _backend_setting() -> tuple[str, str]:
    """The backend that the environment or keras.json states, and which of them does; "" where neither does."""
    if stated := os.environ.get("KERAS_BACKEND"):
        return stated, "KERAS_BACKEND"
    file = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "keras.json"
    try:
        return str(json.loads(file.read_text(encoding="utf-8")).get("backend", "")), str(file)
    except (OSError, ValueError, AttributeError):  # there is none, or Keras does not read it either
        return "", ""
