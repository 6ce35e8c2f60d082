"""Writes the pages of docs/reference that are read from the code: commands, findings, the JSON schema and the Python interface.

    python scripts/write_reference.py [FOLDER]

The build of the documentation calls it. The pages are not in the repository, so that they cannot drift.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SCHEMA = ROOT / "bnexport" / "reporting" / "check.schema.json"


def escape(text: str) -> str:
    """Text as a cell of a table, without meaning for Markdown."""
    for character in "\\`*_<>[]|$":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())


def option_rows(command: Any, context: Any) -> Iterator[tuple[str, str, str]]:
    """Panel, name and help of each argument and option, as the help has them."""
    for parameter in command.get_params(context):
        if getattr(parameter, "hidden", False):
            continue
        if parameter.param_type_name == "argument":
            yield "Arguments", parameter.make_metavar(context).strip("{}[]"), parameter.help or ""
        elif (record := parameter.get_help_record(context)) is not None:
            yield parameter.rich_help_panel or "Options", record[0], record[1]


def commands() -> str:
    """A section for each command: usage, what it does, and tables of its arguments and options."""
    import typer.main

    from bnexport.cli import app

    group: Any = typer.main.get_command(app)
    parts = [
        "# Commands",
        "Every option can also be set in a file or by an environment variable: [](settings.md). What a command returns: [](exit-codes.md).",
        *(
            f"* [`bnexport {name}`](#bnexport-{name}): {escape(command.help.splitlines()[0])}"
            for name, command in group.commands.items()
        ),
    ]
    overview = "\n\n".join(parts[:2]) + "\n\n" + "\n".join(parts[2:])
    sections = [overview]
    for name, command in group.commands.items():
        context = command.make_context(f"bnexport {name}", [], resilient_parsing=True)
        usage = " ".join(command.collect_usage_pieces(context))
        sections.append(f"(bnexport-{name})=\n## bnexport {name}\n\n```text\nbnexport {name} {usage}\n```")
        sections += [escape(paragraph) for paragraph in inspect.cleandoc(command.help).split("\n\n")]
        panels: dict[str, list[tuple[str, str]]] = {}
        for panel, option, text in option_rows(command, context):
            panels.setdefault(panel, []).append((option, text))
        for panel, rows in panels.items():
            table = "\n".join(
                f"| `{option}` | {escape(text)} |".replace("\\|", "&#124;")
                if "|" not in option
                else f"| {escape(option)} | {escape(text)} |"
                for option, text in rows
            )
            sections.append(f"**{panel}**\n\n| | |\n|---|---|\n{table}")
    return "\n\n".join(sections) + "\n"


def findings() -> str:
    """Every code, as `bnexport explain --format markdown` has it, below a table of them."""
    from bnexport.reporting import catalogue
    from bnexport.rules.catalogue import CATALOGUE

    head, body = catalogue.page(CATALOGUE.values()).split("\n\n", 1)
    for code in CATALOGUE:
        body = body.replace(f'<a id="{code.lower()}"></a>\n\n', f"({code.lower()})=\n")
    text = (
        "What a check reports, by its code: what it means, how it is measured, how to tell it from others, and what to do. "
        "`bnexport explain CODE` prints the same. The thresholds are those that the code uses."
    )
    table = "\n".join(f"| [{code}](#{code.lower()}) | {escape(rule.title)} |" for code, rule in CATALOGUE.items())
    return f"{head}\n\n{text}\n\n| code | finding |\n|---|---|\n{table}\n\n{body}\n"


JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def schema_rows(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str, str]]:
    """Path, type and limits of each field, in the order of the schema."""
    needed = set(schema.get("required", ()))
    for name, field in schema.get("properties", {}).items():
        inside = f"{path}.{name}" if path else name
        values = field.get("enum", [field["const"]] if "const" in field else [])
        kind = field.get("type") or sorted({JSON_TYPES.get(type(value), "") for value in values})
        kinds = [kind] if isinstance(kind, str) else list(kind)
        limits = [f"one of {', '.join(map(str, field['enum']))}"] if "enum" in field else []
        limits += [f"always {field['const']}"] if "const" in field else []
        limits += [] if name in needed else ["may be left out"]
        limits += [str(field["description"])] if "description" in field else []
        yield inside, " or ".join(filter(None, kinds)), "; ".join(limits)
        yield from schema_rows(field, inside)
        items = field.get("items")
        if isinstance(items, dict):
            yield from schema_rows(items, f"{inside}[]")
        extra = field.get("additionalProperties")
        if isinstance(extra, dict):
            yield from schema_rows(extra, f"{inside}.*")


def schema() -> str:
    """The JSON schema as a table of its fields, and the file itself."""
    content = json.loads(SCHEMA.read_text(encoding="utf-8"))
    rows = "\n".join(f"| `{path}` | {escape(kind)} | {escape(limits)} |" for path, kind, limits in schema_rows(content))
    return f"""# JSON report

`bnexport check --format json`, `bnexport verify --format json` and `--report FILE.json` write this. The schema is
{{download}}`check.schema.json <../../bnexport/reporting/check.schema.json>`, and part of the installed package. Fields are
only added; a program that reads them should ignore those it does not know. `[]` stands for each element of an array, `.*` for any key.

With `--format ndjson` the same comes a line at a time, with the answers for every image.

| field | type | |
|---|---|---|
{rows}
"""


KINDS = {
    "function": "Functions",
    "exception": "Errors",
    "class": "Classes",
    "data": "Types of arguments",
}


def kind_of(value: object) -> str:
    """Which of KINDS a public name is."""
    if inspect.isclass(value):
        return "exception" if issubclass(value, Exception) else "class"
    return "function" if inspect.isfunction(value) else "data"


def interface() -> str:
    """Every public name of the package, from its docstring."""
    import bnexport

    kinds: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for name in bnexport.__all__:
        if name != "__version__":
            kinds[kind_of(getattr(bnexport, name))].append(name)
    parts = [
        "# Python",
        "The names of the package `bnexport`. Importing it loads no framework: each function imports what it needs when it is called. "
        "Functions take what the options of the commands take, with the same defaults.",
    ]
    for kind, names in kinds.items():
        links = ", ".join(f"{{py:obj}}`~bnexport.{name}`" for name in names)
        parts.append(f"## {KINDS[kind]}\n\n{links}")
        members = "\n   :members:\n   :undoc-members:" if kind == "class" else ""
        parts += [f"```{{eval-rst}}\n.. auto{kind}:: bnexport.{name}{members}\n```" for name in names]
    return "\n\n".join(parts) + "\n"


PAGES = {"commands.md": commands, "findings.md": findings, "schema.md": schema, "python.md": interface}
"""What is written, by its name in docs/reference."""


def write(folder: Path) -> None:
    """Writes the pages that have changed."""
    folder.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        text, path = page(), folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "reference")
