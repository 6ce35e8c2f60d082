"""Whether Keras is installed, and with which framework it starts; neither is imported here."""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from bnexport.errors import MachineError


def choose_backend() -> None:
    """Lets Keras start with TensorFlow, whatever the environment and keras.json say, and says so where they say something else."""
    folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    wanted, origin = os.environ.get("KERAS_BACKEND"), "KERAS_BACKEND"
    if not wanted:
        try:
            settings = json.loads((folder / "keras.json").read_text(encoding="utf-8"))
            wanted, origin = settings.get("backend", "tensorflow"), str(folder / "keras.json")
        except (OSError, ValueError, AttributeError):  # there is none, or Keras does not read it either
            wanted = "tensorflow"
    if wanted != "tensorflow":
        print(f"note: bnexport runs Keras with TensorFlow ({origin} says {wanted})", file=sys.stderr)
    os.environ["KERAS_BACKEND"] = "tensorflow"


def refuse_absence() -> None:
    """Refuses to go on where TensorFlow is not installed, without importing it, which takes seconds.

    Raises:
        MachineError: something is missing.
    """
    missing = [name for name in ("tensorflow", "keras", "h5py") if find_spec(name) is None]
    if missing:
        raise MachineError(
            f"TensorFlow and Keras are required ({', '.join(missing)} not found)",
            fix="install them with: pip install 'bnexport[keras]', or check an ONNX file, which requires neither",
        )
