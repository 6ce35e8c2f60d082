"""Writes README's table of references, runtimes and precisions, from what is registered.

    python scripts/write_matrix.py

Runtimes that are not installed keep the row that they have.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from bnexport.exporter.protocols import CONVERTERS
from bnexport.frameworks.registry import FRAMEWORKS
from bnexport.runtimes.protocols import RUNTIMES, About

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- written by scripts/write_matrix.py -->\n", "<!-- end -->\n"
TITLES = {"keras": "Keras", "saved-model": "SavedModel", "torch": "PyTorch", "onnx": "ONNX"}
"""How the table calls the frameworks, in its order."""
VARIANTS = {"keras2"}
"""Frameworks that read the files of another one."""
TARGETS = {"onnxruntime-provider": "onnxruntime:NAME", "command": "command:PROGRAM", "server": "http://ADDRESS"}
"""What is typed where it is not the name of the runtime."""
PAGES = {"onnxruntime-provider": "runtimes/onnxruntime-providers", "command": "programs", "server": "servers"}
"""The page of a runtime where it is not docs/runtimes/NAME.md."""
OWN_MODEL = {"server"}
"""Runtimes to which no file is given."""
EXPORTED, CONVERTED, GIVEN, NONE, OWN = "export, file", "conversion, file", "file", "-", "its model"
"""A PyTorch module is called as the ONNX file of it is, so that no other file is compared with it."""


def registered() -> list[str]:
    """The runtimes of bnexport itself, in the order of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return list(project["entry-points"]["bnexport.runtimes"])


def cell(framework: str, name: str, about: About) -> str:
    """Which file of a framework's model a runtime executes."""
    if name in OWN_MODEL:
        return OWN
    if "onnx" not in about.formats:
        return {"keras": CONVERTED, "torch": NONE}.get(framework, GIVEN)
    converted = any(framework in CONVERTERS.open(converter).frameworks for converter in CONVERTERS.names())
    return EXPORTED if converted else GIVEN


def precision(name: str, about: About) -> str:
    """What a runtime is asked to compute in."""
    if name == "onnx-reference":
        return "float64"
    if name in {"litert", "command", *OWN_MODEL}:
        return "as it does"
    if name == "onnxruntime":
        return "float32, and as deployed on CUDA"
    return "float32, and as deployed" if about.reduced_by_default or name.startswith("onnxruntime") else "float32"


def row(name: str, about: About) -> str:
    """A line of the table."""
    page = PAGES.get(name, f"runtimes/{name}")
    cells = [f"[`{TARGETS.get(name, name)}`](docs/{page}.md)", *(cell(each, name, about) for each in TITLES)]
    return f"| {' | '.join([*cells, precision(name, about)])} |"


def table(current: str) -> str:
    """The table, with the rows of `current` for runtimes that are not installed here."""
    missing = set(FRAMEWORKS.own) - set(TITLES) - VARIANTS
    if missing:
        raise SystemExit(f"no title for {', '.join(sorted(missing))}")
    kept = {match[1]: match[0] for match in re.finditer(r"^\| \[`([^`]+)`\].*$", current, re.MULTILINE)}
    rows = [f"| target | {' | '.join(TITLES.values())} | computes in |", "|---" * (len(TITLES) + 2) + "|"]
    for name in registered():
        about = RUNTIMES.open(name).about()
        rows.append(kept.get(TARGETS.get(name, name), row(name, about)) if not about.version else row(name, about))
    return "\n".join(rows) + "\n"


def written(readme: str) -> str:
    """README with the table of today."""
    head, rest = readme.split(BEGIN)
    current, tail = rest.split(END)
    return f"{head}{BEGIN}{table(current)}{END}{tail}"


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
