"""What may have been meant where a command, an option or the value of an option is mistyped, behind the sentence of the parser."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import typer

from bnexport.results.option_names import former_names
from bnexport.system.suggestions import most_similar, suggest

if TYPE_CHECKING:  # click's own classes in releases of typer that have no copy of it
    from typer._click.core import Context, Parameter
    from typer._click.exceptions import UsageError
else:
    UsageError = typer.BadParameter.__mro__[1]  # typer does not export it


@runtime_checkable
class _Choice(Protocol):
    """The type of a parameter that is one of several words."""

    choices: Sequence[object]
    convert: Callable[[object, object, object], object]


@contextmanager
def suggesting_options(options: Callable[[], Sequence[Parameter]], args: Sequence[str]) -> Iterator[None]:
    """Adds to the error about an option that does not exist which one may have been meant.

    Args:
        options: the parameters that there are.
        args: what is parsed.
    """
    typed = list(args)  # the parser empties its list
    try:
        yield
    except UsageError as error:
        option = getattr(error, "option_name", None)
        if option is not None and hasattr(error, "possibilities"):
            error.possibilities = None  # hidden aliases are among those of the parser
            shown = [param for param in options() if not getattr(param, "hidden", False)]
            names = [name for param in shown for name in param.opts if name.startswith("--")]
            former = former_names(names, "--{}".format)
            _add(error, most_similar(_whole(option, typed), names, former))
        raise


def _whole(option: str, args: Sequence[str]) -> str:
    """The option with two dashes: of -target, the parser reports -t."""
    if option.startswith("--"):
        return option
    words = [arg for arg in args if arg.startswith(option[:1]) and len(arg) > 2 and option[1:] in arg]
    return f"-{words[0]}" if words and not words[0].startswith("--") else option


def suggest_choices(kind: object) -> None:
    """Makes the type of a parameter, where it is one of several words, say which of them may have been meant."""
    if not isinstance(kind, _Choice):
        return
    convert, names = kind.convert, [str(choice) for choice in kind.choices]

    def convert_or_suggest(value: object, param: object, ctx: object) -> object:
        try:
            return convert(value, param, ctx)
        except typer.BadParameter as error:
            _add(error, most_similar(str(value), names))
            raise

    kind.convert = convert_or_suggest


def refuse_unknown_command(ctx: Context, name: str, names: Sequence[str]) -> None:
    """Refuses a command that does not exist, where another may have been meant.

    Raises:
        UsageError: that of the parser.
    """
    if name not in names and (question := suggest(name, names)):
        ctx.fail(f"No such command {name!r}; {question}")


def _add(error: UsageError, nearest: str) -> None:
    if nearest:
        error.message = f"{error.message.rstrip('.')}; did you mean {nearest}?"
