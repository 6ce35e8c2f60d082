"""Options that are set in bnexport.toml, in [tool.bnexport] of pyproject.toml, or by environment variables BNEXPORT_*.

The command line overrides all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnexport.errors import InputError, UsageError
from bnexport.results.option_names import FORMER_NAMES, conflict, current_name, former_names
from bnexport.results.target_names import refusal_in_file
from bnexport.system import files
from bnexport.system.suggestions import suggest

PREFIX = "BNEXPORT_"
_OTHERS = {
    *("BNEXPORT_CACHE_DIR", "BNEXPORT_DEBUG", "BNEXPORT_CONFINED", "BNEXPORT_KEY_PASSWORD"),
    *("BNEXPORT_SERVER_TOKEN", "BNEXPORT_SERVER_CA"),
}
"""Variables that set no option."""

_TESTS = {"BNEXPORT_FUZZ", "BNEXPORT_FUZZ_COMMANDS", "BNEXPORT_SEEDS"}
"""Variables of the project's own tests, which may be set where they start commands."""

_TYPED_ONLY = {
    "allow_custom_code": "it lets a model run code",
    "import": "it runs code",
    "force": "it overwrites what would be refused",
    "isolate": "it limits what files from others can do",
    "isolate_timeout": "it limits what files from others can do",
    "isolate_memory": "it limits what files from others can do",
    "allow_remote": "it limits what files from others can do",
    "temp_dir": "it decides where files are written",
    "engine": "it decides which machines compute",
    "address": "it decides which machines compute",
    "mlflow": "it sends reports",
    "mlflow_uri": "it sends reports",
    "mlflow_experiment": "it sends reports",
    "no_cache": "it decides what is kept",
    "python": "it starts a program",
    "matrix": "it installs packages",
    "matrix_all": "it installs packages",
    "sign": "it uses a private key",
    "private_key": "it uses a private key",
    "signing_certificate": "it uses a private key",
    "require_signature": "it decides whose bundles are trusted",
    "public_key": "it decides whose bundles are trusted",
    "certificate_chain": "it decides whose bundles are trusted",
    "identity": "it decides whose bundles are trusted",
    "identity_provider": "it decides whose bundles are trusted",
}
"""Options that no file may set, with the reason: a file may come with the model that is checked."""

_NAMING_TARGETS = {"target", "require_target"}
"""Options that name targets, which may start programs."""

_OUTPUTS = {"output", "report", "output_dir"}
"""Options that name what is written: a file may name only what lies below its own folder."""

Options = Mapping[str, Mapping[str, Any]]
"""For each command its options by name, as the command line has them: with `multiple` and `is_flag`, and `default`."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The value of one option of one command, and where it comes from."""

    command: str
    option: str
    value: object
    origin: str


def are_there(folder: Path, environment: Mapping[str, str]) -> bool:
    """Whether a file or a variable sets any option, or seems to: the options of all commands take time to list.

    Raises:
        InputError: a file cannot be read.
    """
    return bool(_file(folder)[1]) or any(name.startswith(PREFIX) and name not in _OTHERS for name in environment)


def read_settings(options: Options, folder: Path, environment: Mapping[str, str]) -> list[Setting]:
    """The value of every option of every command, when nothing is typed.

    The file is the nearest one, from the folder upwards: a bnexport.toml, or a pyproject.toml with [tool.bnexport].
    Its keys are the names of options without dashes. Keys at the top hold for every command that has the option, keys
    in the table of a command for that command. Environment variables override both. Former names are accepted.

    Args:
        options: what there is.
        folder: where to look first.
        environment: the variables.

    Raises:
        InputError: a file cannot be read.
        UsageError: a file sets an option that does not exist, or an option is set by both of its names.
    """
    names = {(command, name) for command, table in options.items() for name in table}
    by_key = {(c, n): Setting(c, n, p.default, "default") for c, table in options.items() for n, p in table.items()}
    for command, name, value, origin in [*_from_file(options, folder), *_set(options, environment)]:
        for key in names:
            if key[1] == name and command in ("", key[0]):
                parameter = options[key[0]][name]
                by_key[key] = Setting(*key, _convert(value, parameter, origin), origin)
    return list(by_key.values())


def _from_file(options: Options, folder: Path) -> Iterator[tuple[str, str, object, str]]:
    path, table = _file(folder)
    everywhere = {name for command in options.values() for name in command}
    own = {key: value for key, value in table.items() if key not in options}
    _refuse_both_names(own, str(path))
    for key, value in own.items():
        yield "", _known(key, everywhere, path, commands=options), value, str(path)
    for command, inner in table.items():
        if command not in options:
            continue
        if not isinstance(inner, dict):
            raise UsageError(f"{path}: {command} is a command", expected=f"a table [{command}] of options")
        _refuse_both_names(inner, str(path))
        for key, value in inner.items():
            yield command, _known(key, set(options[command]), path, command), value, str(path)


def _refuse_both_names(keys: Iterable[str], origin: str) -> None:
    """Refuses keys among which one option is set by both of its names."""
    names: dict[str, str] = {}
    for key in keys:
        other = names.setdefault(current_name(key), key)
        if other != key:
            raise UsageError(f"{origin}: {conflict(other, key)}", fix="set one of them")


def _file(folder: Path) -> tuple[Path, dict[str, object]]:
    """The nearest file from the folder upwards that sets options, and the options."""
    for parent in (folder, *folder.parents):
        own, project = parent / "bnexport.toml", parent / "pyproject.toml"
        if own.is_file():
            return own, _read(own)
        if _mentions_bnexport(project):
            tool = _read(project).get("tool", {})
            if isinstance(tool, dict) and isinstance(tool.get("bnexport"), dict):
                return project, tool["bnexport"]
    return folder, {}


def _mentions_bnexport(path: Path) -> bool:
    """Whether a file contains the word bnexport. Most do not, and parsing TOML takes a while."""
    try:
        return path.is_file() and b"bnexport" in files.read_bounded(path, files.MOST_TEXT)
    except (OSError, InputError):
        return False


def _read(path: Path) -> dict[str, object]:
    import tomllib

    try:
        return tomllib.loads(files.read_bounded(path, files.MOST_TEXT).decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(
            f"cannot read {path} ({error})", fix="correct the file, or run the command in another folder"
        ) from error


_LIST = "bnexport config --all lists all options"


def _known(key: str, names: set[str], path: Path, command: str = "", commands: Iterable[str] = ()) -> str:
    name = current_name(key).replace("-", "_")
    if name in _TYPED_ONLY:
        variable = PREFIX + name.upper()
        raise UsageError(
            f"{path} sets {key}, which a file must not set because {_TYPED_ONLY[name]}",
            fix=f"remove it from the file, and set it on the command line or with {variable}",
        )
    if name not in names:
        spelled = {name.replace("_", "-") for name in names}
        raise UsageError(
            f"{path} sets {key}, which is not an option of {command}"
            if command
            else f"{path} sets {key}, which is not an option",
            fix=suggest(key, spelled | set(commands), former_names(spelled, str)) or _LIST,
        )
    return name


def _set(options: Options, environment: Mapping[str, str]) -> Iterator[tuple[str, str, object, str]]:
    names = {name for command in options.values() for name in command}
    given = {
        variable: name
        for variable, text in environment.items()
        if variable.startswith(PREFIX) and variable not in _OTHERS and text and (name := _option_of(variable)) in names
    }
    variables: dict[str, str] = {}
    for variable, name in given.items():
        other = variables.setdefault(name, variable)
        if other != variable:
            raise UsageError(f"the environment: {conflict(other, variable)}", fix="set one of them")
        yield "", name, environment[variable], f"environment {variable}"


def _option_of(variable: str) -> str:
    return current_name(variable.removeprefix(PREFIX).lower()).replace("-", "_")


def describe_unknown_variables(options: Options, environment: Mapping[str, str]) -> list[str]:
    """A sentence for each BNEXPORT_* variable that sets no option, with the most similar name."""
    names = {PREFIX + name.upper() for command in options.values() for name in command} | _OTHERS
    former = {PREFIX + name.replace("-", "_").upper() for name in FORMER_NAMES.values()} if options else set()
    accepted = names | former | _TESTS
    unknown = [name for name in environment if name.startswith(PREFIX) and name not in accepted]
    renamed = former_names(names, lambda name: PREFIX + name.replace("-", "_").upper())
    return [
        f"note: the environment variable {name} sets no option; {suggest(name, names, renamed) or _LIST}"
        for name in unknown
    ]


def _convert(value: object, parameter: Any, origin: str) -> object:
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
    texts = [_resolve_path(str(entry), parameter, origin) for entry in values]
    if parameter.multiple:
        return texts
    if len(texts) != 1:
        raise UsageError(f"{origin}: {parameter.name} has {len(texts)} values", expected="one")
    return texts[0]


_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _resolve_path(text: str, parameter: Any, origin: str) -> str:
    refusal = refusal_in_file(text) if parameter.name in _NAMING_TARGETS else ""
    if refusal and not origin.startswith("environment"):
        raise UsageError(
            f"{origin} sets {parameter.name} to {text}, which a file must not do because {refusal}",
            fix="set it on the command line",
        )
    if parameter.type.name not in ("path", "file", "directory") or origin.startswith("environment"):
        return text
    if "\0" in text:
        raise UsageError(f"{origin}: {parameter.name} contains a null byte", expected="a path")
    folder = Path(origin).parent
    path = folder / text
    if parameter.name in _OUTPUTS and not path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"{origin} sets {parameter.name} to {text}, outside of its own folder",
            expected=f"a path below {folder}",
            fix="set it on the command line",
        )
    return str(path)


def list_changes(settings: list[Setting], options: Options) -> dict[str, dict[str, object]]:
    """The settings that differ from the defaults, by command and by the name of the parameter."""
    changed: dict[str, dict[str, object]] = {}
    for setting in settings:
        if setting.origin != "default":
            name = options[setting.command][setting.option].name
            changed.setdefault(setting.command, {})[name] = setting.value
    return changed


def list_options(context: Any) -> dict[str, dict[str, Any]]:
    """The options of every command by name, with underscores; former names are left out. The context is that of the group of all commands."""
    group = context.command
    by_command: dict[str, dict[str, Any]] = {}
    for name in group.list_commands(context):
        given = [p for p in group.get_command(context, name).params if p.param_type_name == "option" and not p.hidden]
        typed = {next(o for o in p.opts if o.startswith("--"))[2:].replace("-", "_"): p for p in given}
        by_command[name] = {key: p for key, p in typed.items() if key != "help"}
    return by_command
