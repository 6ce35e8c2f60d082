"""Option names of earlier releases. They keep working wherever an option can be set; help and messages show the new name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

FORMER_NAMES = {
    "allow-custom-code": "trust",
    "arrays": "inputs",
    "aspect": "fit",
    "color-mode": "channels",
    "deployed": "onnx",
    "interpolation": "resize",
    "isolate": "untrusted",
    "isolate-memory": "memory-limit",
    "isolate-timeout": "time-limit",
    "layerwise": "layers",
    "no-cpu-fallback": "strict-placement",
    "normalize": "scaling",
    "output-dir": "results",
    "require-target": "require",
    "target": "provider",
    "temp-dir": "scratch",
    "validation-data": "eval",
}
"""The former name of an option, by its name; both without their dashes."""

_NEW_NAMES = {former: name for name, former in FORMER_NAMES.items()}


def current_name(name: str) -> str:
    """The name that an option has now, given either of its names, with hyphens or with underscores.

    >>> current_name("inputs"), current_name("time_limit"), current_name("labels")
    ('arrays', 'isolate-timeout', 'labels')
    """
    hyphenated = name.replace("_", "-")
    return _NEW_NAMES.get(hyphenated, hyphenated)


def former_names(names: Iterable[str], spell: Callable[[str], str]) -> dict[str, str]:
    """The former names of some options, each with the name that the option has now; `spell` writes a name as it is written there.

    >>> former_names(["--arrays", "--labels"], "--{}".format)
    {'--inputs': '--arrays'}
    """
    spelled = {spell(name): spell(former) for name, former in FORMER_NAMES.items()}
    return {spelled[name]: name for name in names if name in spelled}


def conflict(one: str, other: str) -> str:
    """The sentence for an option that is set by both of its names."""
    return f"{one} and {other} are two names of the same option"
