"""All settings as one typed tree. Values come from a preset, a file and `--set`, in rising precedence."""

from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field

from components.run_settings import RunSettings
from pipeline.config import beam_options
from pipeline.config.kubeflow import KubeflowSettings
from pipeline.config.notify import NotifySettings
from trainer import settings_tree
from trainer.errors import SettingsError

# The value of data.source that stands for the embedded sample.
SAMPLE = "sample"
# JSON schema of the settings, with which editors complete names and values. It lies beside the presets, and
# `nnclr init` writes a copy.
SCHEMA_FILE = "settings.schema.json"
# First line of a settings file, which tells editors its schema.
SCHEMA_LINE = f"# yaml-language-server: $schema={SCHEMA_FILE}\n"


class Settings(RunSettings):
    """All settings of a pipeline."""

    kubeflow: KubeflowSettings = KubeflowSettings()
    beam: dict[str, str | int | float | bool] = Field(
        # Beam's DirectRunner would download its Prism binary; this runner works in the process and downloads nothing.
        {"runner": "FnApiRunner"},
        description="Beam pipeline options of ingest, statistics and evaluation.",
    )

    notify: tuple[NotifySettings, ...] = Field((), description="Receivers that are told how a run ended.")

    def beam_pipeline_args(self) -> list[str]:
        """Returns the Beam options as command-line arguments."""
        return beam_options.flags(self.beam)


def presets() -> dict[str, str]:
    """Returns the YAML text of each shipped preset by name.

    The text lacks the line that names the schema, because a copy of a preset has no schema beside it.
    """
    folder = resources.files("pipeline").joinpath("presets")
    return {
        file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8").removeprefix(SCHEMA_LINE)
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".yaml")
    }


def load(preset: str | None = None, file: Path | None = None, overrides: list[str] | None = None) -> Settings:
    """Reads the settings.

    Args:
        preset: Name of a shipped preset.
        file: YAML file in the form of a preset, whose values override the preset's.
        overrides: Values such as `trainer.epochs=2`, which override both. The values are YAML.

    Raises:
        SettingsError: If a setting is unknown or its value is not allowed.
    """
    tree: dict[str, Any] = {}
    if preset is not None:
        known = presets()
        if preset not in known:
            raise SettingsError(f"There is no preset {preset!r}; there are: {', '.join(known)}.")
        tree = settings_tree.parsed(known[preset], f"preset {preset}")
    if file is not None:
        tree = settings_tree.merged(tree, settings_tree.read(file))
    return settings_tree.validated(Settings, settings_tree.overridden(tree, overrides or []))
