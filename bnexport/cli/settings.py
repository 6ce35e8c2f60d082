"""What options are set to without being typed: bnexport.toml, [tool.bnexport] in pyproject.toml, and BNEXPORT_* in the environment. What is typed wins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnexport.errors import InputError, UsageError
from bnexport.system import files

PREFIX = "BNEXPORT_"
_OTHERS = {"BNEXPORT_CACHE_DIR", "BNEXPORT_DEBUG", "BNEXPORT_CONFINED"}
"""Variables that are no options."""

_TESTS = {"BNEXPORT_FUZZ", "BNEXPORT_FUZZ_COMMANDS", "BNEXPORT_SEEDS"}
"""Variables of the project's own tests, which may be set where they start commands."""

_TYPED_ONLY = {
    "trust": "it lets a model run code",
    "import": "it runs code",
    "force": "it overwrites what would be refused",
    "untrusted": "it limits what files of others may do",
    "time_limit": "it limits what files of others may do",
    "memory_limit": "it limits what files of others may do",
    "allow_remote": "it limits what files of others may do",
    "scratch": "it says where files are written",
    "engine": "it says who computes",
    "address": "it says who computes",
    "mlflow": "it sends reports",
    "mlflow_uri": "it sends reports",
    "mlflow_experiment": "it sends reports",
    "no_cache": "it decides what is kept",
}
"""What no file may say, and why: a folder that is checked could bring one."""

_OUTPUTS = {"output", "report", "results"}
"""Options that name what is written: a file may name only what lies below its own folder."""

Options = Mapping[str, Mapping[str, Any]]
"""For each command its options by name, as the command line has them: with `multiple` and `is_flag`, and `default`."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The value of one option of one command, and where it comes from."""

    command: str
    option: str
    value: Any
    origin: str


def settings(options: Options, folder: Path, environment: Mapping[str, str]) -> list[Setting]:
    """The value of every option of every command, when nothing is typed.

    The nearest folder upwards with a bnexport.toml or a [tool.bnexport] counts. Keys are options without their dashes; those at the top hold for every command that has them, those in a
    table of a command's name for that one. The environment goes before both.

    Args:
        options: what there is.
        folder: where to look first.
        environment: the variables.

    Raises:
        InputError: a file cannot be read.
        UsageError: it sets something that there is not.
    """
    known = {(command, name) for command, table in options.items() for name in table}
    found = {(c, n): Setting(c, n, p.default, "default") for c, table in options.items() for n, p in table.items()}
    for command, name, value, origin in [*_filed(options, folder), *_set(options, environment)]:
        for key in known:
            if key[1] == name and command in ("", key[0]):
                parameter = options[key[0]][name]
                found[key] = Setting(*key, _typed(value, parameter, origin), origin)
    return list(found.values())


def _filed(options: Options, folder: Path) -> Iterator[tuple[str, str, Any, str]]:
    path, table = _file(folder)
    everywhere = {name for command in options.values() for name in command}
    own = {key: value for key, value in table.items() if key not in options}
    for key, value in own.items():
        yield "", _known(key, everywhere, path), value, str(path)
    for command, inner in table.items():
        if command not in options:
            continue
        if not isinstance(inner, dict):
            raise UsageError(f"{path}: {command} is a command", expected=f"a table [{command}] of its options")
        for key, value in inner.items():
            yield command, _known(key, set(options[command]), path), value, str(path)


def _file(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The nearest file upwards that has something to say, and what."""
    for place in (folder, *folder.parents):
        own, project = place / "bnexport.toml", place / "pyproject.toml"
        if own.is_file():
            return own, _read(own)
        if _mentioned(project):
            tool = _read(project).get("tool", {})
            if isinstance(tool, dict) and isinstance(tool.get("bnexport"), dict):
                return project, tool["bnexport"]
    return folder, {}


def _mentioned(path: Path) -> bool:
    """Whether bnexport stands in a file: most projects have nothing to say to it, and TOML takes a while."""
    try:
        return path.is_file() and b"bnexport" in files.read_bounded(path, files.MOST_TEXT)
    except (OSError, InputError):
        return False


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(files.read_bounded(path, files.MOST_TEXT).decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"cannot read {path} ({error})", fix="mend it, or run elsewhere") from error


def _known(key: str, names: set[str], path: Path) -> str:
    name = key.replace("-", "_")
    if name in _TYPED_ONLY:
        variable = PREFIX + name.upper()
        raise UsageError(
            f"{path} says {key}, which a file that comes with a model must not, because {_TYPED_ONLY[name]}",
            fix=f"remove it there, and say it on the command line or with {variable}",
        )
    if name not in names:
        import difflib

        near = difflib.get_close_matches(name, names, n=1)
        fix = f"did you mean {near[0].replace('_', '-')}?" if near else "see: bnexport config"
        raise UsageError(f"{path} sets {key}, which is no option", fix=fix)
    return name


def _set(options: Options, environment: Mapping[str, str]) -> Iterator[tuple[str, str, Any, str]]:
    names = {name for command in options.values() for name in command}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX) or variable in _OTHERS:
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in names and text:
            yield "", name, text, f"environment {variable}"


def unknown_variables(options: Options, environment: Mapping[str, str]) -> list[str]:
    """A sentence for each BNEXPORT_* variable that sets nothing, with the name that may be meant."""
    names = {PREFIX + name.upper() for command in options.values() for name in command} | _OTHERS
    unknown = [variable for variable in environment if variable.startswith(PREFIX) and variable not in names | _TESTS]
    notes = []
    if unknown:
        import difflib

        for variable in unknown:
            near = difflib.get_close_matches(variable, names, n=1)
            meant = f"; did you mean {near[0]}?" if near else "; see: bnexport config"
            notes.append(f"note: the environment variable {variable} sets no option{meant}")
    return notes


def _typed(value: Any, parameter: Any, origin: str) -> Any:
    """A value as the command line would have it: lists for options that may be repeated, words for flags, and paths from where they were written."""
    if parameter.is_flag:
        if isinstance(value, bool):
            return value
        if str(value).lower() not in _WORDS:
            raise UsageError(f"{origin}: {parameter.name} is {value!r}", expected="true or false")
        return _WORDS[str(value).lower()]
    if isinstance(value, dict):
        raise UsageError(f"{origin}: {parameter.name} is a table", expected="a value")
    values = value if isinstance(value, list) else str(value).split() if parameter.multiple else [value]
    texts = [_placed(str(entry), parameter, origin) for entry in values]
    if parameter.multiple:
        return texts
    if len(texts) != 1:
        raise UsageError(f"{origin}: {parameter.name} has {len(texts)} values", expected="one")
    return texts[0]


_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _placed(text: str, parameter: Any, origin: str) -> str:
    if parameter.type.name not in ("path", "file", "directory") or origin.startswith("environment"):
        return text
    if "\0" in text:
        raise UsageError(f"{origin}: {parameter.name} has a null byte in it", expected="a path")
    folder = Path(origin).parent
    path = folder / text
    if parameter.name in _OUTPUTS and not path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"{origin} sets {parameter.name} to {text}, outside of its own folder",
            expected=f"a path below {folder}",
            fix="say it on the command line",
        )
    return str(path)


def defaults(found: list[Setting], options: Options) -> dict[str, dict[str, Any]]:
    """What is not as it would be anyway, by command and the parameter's own name."""
    changed: dict[str, dict[str, Any]] = {}
    for setting in found:
        if setting.origin != "default":
            name = options[setting.command][setting.option].name
            changed.setdefault(setting.command, {})[name] = setting.value
    return changed


def options_of(group: Any, context: Any) -> dict[str, dict[str, Any]]:
    """The options of every command of the command line, by what is typed for them."""
    found: dict[str, dict[str, Any]] = {}
    for name in group.list_commands(context):
        given = [p for p in group.get_command(context, name).params if p.param_type_name == "option"]
        typed = {next(o for o in p.opts if o.startswith("--"))[2:].replace("-", "_"): p for p in given}
        found[name] = {key: p for key, p in typed.items() if key != "help"}
    return found
