"""How a command reads its options and shows its help: options in panels, and their former names as hidden aliases."""

from __future__ import annotations

import copy
from typing import Any

import typer
from typer.core import TyperCommand

from bnexport.cli.mistyped import suggest_choices, suggesting_options
from bnexport.results.option_names import FORMER_NAMES, conflict

SHARED_PANELS = (
    "Data",
    "Model",
    "Preprocessing",
    "Targets",
    "Tolerances",
    "Output",
    "Cluster",
    "Isolation",
    "Options",
)
"""The order of the panels that several commands have; those of one command come before them, options without a panel last."""


class Command(TyperCommand):
    """A command whose options are grouped by `rich_help_panel` and also accept their former names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._aliases: dict[str, Any] = {}
        for param in self.params:
            suggest_choices(param.type)
        for option in [param for param in self.params if param.param_type_name == "option"]:
            for spelling in option.opts:
                if former := FORMER_NAMES.get(spelling.removeprefix("--")):
                    alias = _alias(option, former)
                    self._aliases[str(alias.name)] = (alias, option, spelling)
                    self.params.append(alias)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses arguments; what was typed by a former name becomes the value of the option.

        Raises:
            typer.BadParameter: both names of an option were typed.
        """
        with suggesting_options(lambda: self.get_params(ctx), args):
            rest = super().parse_args(ctx, args)
        for name, (alias, option, spelling) in self._aliases.items():
            value = ctx.params.pop(name, None)
            if not _was_typed(ctx, name):
                continue
            if _was_typed(ctx, option.name):
                raise typer.BadParameter(f"{conflict(spelling, alias.opts[0])}; give one of them", ctx=ctx)
            ctx.params[option.name] = value
        return rest

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments, then the options by panel."""
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                panel = getattr(param, "rich_help_panel", None) or "Options"
                title = "Arguments" if param.param_type_name == "argument" else panel
                panels.setdefault(title, []).append(record)
        own = [title for title in panels if title not in SHARED_PANELS]
        for title in [*own, *SHARED_PANELS]:
            if records := panels.get(title):
                with formatter.section(title):
                    formatter.write_dl(records)


def _alias(option: Any, former: str) -> Any:
    alias = copy.copy(option)
    alias.name = former.replace("-", "_")
    alias.opts, alias.secondary_opts = [f"--{former}"], []
    alias.default, alias.required, alias.hidden = None, False, True
    return alias


def _was_typed(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
