"""The command line: arguments in, exit code out. Every command calls the function a Python user would call."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from bnexport.cli import exit_codes, interrupts, settings, stdio
from bnexport.cli.group import Group
from bnexport.errors import BnexportError, UsageError
from bnexport.system import confined, imports
from bnexport.version import __version__

app = typer.Typer(
    name="bnexport",
    cls=Group,
    help="Does a Keras model and its ONNX export compute the same thing in every runtime? Check it before you deploy.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: it is four times as fast
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 passed, 1 a check failed, 2 usage or unreadable input, 3 this machine cannot do what is required, "
    "4 a batch is partly evaluated, 70 internal error, 130 interrupted.",
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"bnexport {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    *,
    version: Annotated[  # noqa: ARG001 - its callback does what it asks for
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The options before the command; and those that files and the environment set for it."""
    if context.resilient_parsing or os.environ.get(confined.INSIDE) == confined.PLANNED:  # shell completion
        return
    try:
        folder = _current_folder()
        if not settings.are_there(folder, os.environ):
            return
        options = settings.list_options(context)
        values = settings.read_settings(options, folder, os.environ)
        context.default_map = settings.list_changes(values, options)
        for note in settings.describe_unknown_variables(options, os.environ):
            exit_codes.print_error(note, 0)
    except BnexportError as error:
        raise typer.Exit(exit_codes.report_error(error)) from error


def _current_folder() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise UsageError("the current folder is gone", fix="change to a folder that exists") from error


def main() -> None:
    """The entry point of the `bnexport` command."""
    end_with(app)


def end_with(command: Callable[[], None]) -> NoReturn:
    """Runs a command as the last thing of this process: its exit code, an error as a sentence, Ctrl-C at any time."""
    stdio.prepare()
    imports.own_process()
    if confined.INSIDE in os.environ:
        confined.watch_threads()
    if not (sys.warnoptions or os.environ.get("BNEXPORT_DEBUG")):
        warnings.simplefilter("ignore")  # they address the authors of programs, and may quote what a model says
    sys.unraisablehook = _unraisable
    interrupts.watch()
    try:
        command()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except Exception as error:  # noqa: BLE001 - as in exit_codes
        code = exit_codes.report_error(error)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BnexportError as error:
        code = exit_codes.report_error(error)
    if (folders := sys.modules.get("bnexport.batch.folders")) is not None:
        folders.remove()
    # Everything is written and cleaned up: neither a thread that is still computing nor the freeing of gigabytes is
    # waited for.
    os._exit(code + confined.ENDED if os.environ.get(confined.INSIDE) == confined.STARTED else code)


def _unraisable(about: sys.UnraisableHookArgs) -> None:
    """Ctrl-C inside a callback of a library, which Python can only print and forget, interrupts the command all the same."""
    if isinstance(about.exc_value, KeyboardInterrupt):
        interrupts.repeat()
    elif os.environ.get("BNEXPORT_DEBUG"):
        sys.__unraisablehook__(about)
