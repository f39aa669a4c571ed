"""The command `nnclr settings`."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from pipeline.commands.options import JsonOption, complete_presets
from trainer.errors import SettingsError


def complete_names(incomplete: str) -> list[str]:
    """Names of sections and settings that start with what was typed, for the shell."""
    from pipeline import settings_reference

    sections = settings_reference.sections()
    names = [name for section in sections for name in (section.name, *(setting.name for setting in section.settings))]
    return [name for name in dict.fromkeys(names) if name and name.startswith(incomplete)]


def settings(
    prefix: Annotated[
        str,
        typer.Argument(
            metavar="PREFIX",
            help="Show only settings whose names start with this.",
            show_default=False,
            autocompletion=complete_names,
        ),
    ] = "",
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Show also the values that this preset changes.", autocompletion=complete_presets
        ),
    ] = None,
    as_json_schema: Annotated[
        bool, typer.Option("--json-schema", help="Print the JSON schema of all settings, for editors and validators.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List all settings with their types, allowed values, defaults and descriptions.

    **Examples**

    `nnclr settings trainer.optimizer`

    `nnclr settings trainer --preset stl10-resnet18`

    `nnclr settings --json-schema > settings.schema.json`
    """
    from pipeline import settings_reference

    if as_json_schema:
        if prefix or preset or as_json:
            raise SettingsError("--json-schema prints all settings: leave out PREFIX, --preset and --json.")
        print(settings_reference.schema_text(), end="")
        return
    sections = settings_reference.matching(prefix)
    changed = settings_reference.differences(preset) if preset else {}
    if as_json:
        rows = [asdict(setting) for section in sections for setting in section.settings]
        print(json.dumps([row | _of_preset(row["name"], changed) for row in rows]))
        return
    console = Console()
    for number, section in enumerate(sections):
        if number:
            console.print()
        if section.name:
            _write(console, Text.assemble((section.name, "bold"), f": {section.description}"))
        for setting in section.settings:
            values = f"{setting.type} ({setting.allowed.replace('`', '')})" if setting.allowed else setting.type
            line = Text.assemble((setting.name, "bold cyan"), f"  {values}, default ")
            line.append(settings_reference.as_yaml(setting.default), "green")
            if setting.name in changed:
                line.append(f", {preset}: ")
                line.append(settings_reference.as_yaml(changed[setting.name]), "yellow")
            _write(console, line, indent=2, hanging=4)
            _write(console, Text(setting.description), indent=6)


def _of_preset(name: str, changed: dict[str, Any]) -> dict[str, Any]:
    return {"preset": changed[name]} if name in changed else {}


def _write(console: Console, text: Text, indent: int = 0, hanging: int = 0) -> None:
    """Writes a paragraph: wrapped on a terminal, and on one line elsewhere, for programs.

    Args:
        console: Console to write to.
        text: The paragraph.
        indent: Spaces before each line.
        hanging: Additional spaces before each line but the first.
    """
    if not console.is_terminal:
        console.print(Text(" " * indent) + text, soft_wrap=True)
        return
    for number, line in enumerate(text.wrap(console, console.width - indent - hanging)):
        console.print(Padding(line, (0, 0, 0, indent + (hanging if number else 0)), expand=False))
