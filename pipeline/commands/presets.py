"""The command `nnclr presets`."""

from typing import Annotated

import typer

from pipeline.commands.options import complete_presets

app = typer.Typer(help="Show the shipped settings.", no_args_is_help=True)


@app.command("list")
def presets_list() -> None:
    """List the presets and the purpose of each."""
    from pipeline import config

    for name, text in config.presets().items():
        print(f"{name}: {text.splitlines()[0].lstrip('# ')}")


@app.command("show")
def presets_show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the preset.", autocompletion=complete_presets)],
) -> None:
    """Print a preset, to copy and change.

    **Example**: `nnclr presets show sample > mine.yaml`
    """
    from pipeline import config

    # Raises an error that lists the presets if the name is unknown.
    config.load(name)
    print(config.presets()[name], end="")
