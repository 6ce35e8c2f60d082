"""Loads TensorFlow and Keras when it is imported: for a process that others are forked from."""

from contextlib import suppress

from bnexport.errors import MachineError
from bnexport.frameworks.keras.model import load_framework

with suppress(MachineError):  # each check says so itself
    load_framework()
