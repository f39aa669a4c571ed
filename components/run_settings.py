"""The settings that decide what a run computes, without those that say where it computes."""

from typing import Annotated, Any

from pydantic import Field

from components.data_gate.config import GateSettings
from components.data_resolver.config import DataSettings
from components.image_example_gen.config import IngestSettings
from components.linear_probe_evaluator.config import EvaluatorSettings
from components.model_registry.config import RegistrySettings
from trainer.config import StrictModel, TrainerSettings


class RunSettings(StrictModel):
    """The settings that DataResolver identifies a run by, and that a released version records."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")] = Field(
        "nnclr", description="Name of the pipeline. Results are cached within one name."
    )
    data: DataSettings = DataSettings()
    gate: GateSettings = GateSettings()
    trainer: TrainerSettings = TrainerSettings()
    evaluator: EvaluatorSettings = EvaluatorSettings()
    registry: RegistrySettings = RegistrySettings()

    def deciding(self) -> dict[str, Any]:
        """Returns the settings that decide on an encoder and on its release, as JSON values."""
        return {
            "data": self.data.model_dump(mode="json", include=set(IngestSettings.model_fields)),
            "trainer": self.trainer.model_dump(mode="json", exclude={"devices"}),
            "evaluator": self.evaluator.model_dump(mode="json", exclude={"data"}),
            "registry": self.registry.model_dump(mode="json", include={"alias", "approval", "card"}),
        }
