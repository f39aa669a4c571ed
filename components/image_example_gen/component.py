"""The contract of ImageExampleGen."""

from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import channel_utils, component_spec, standard_artifacts

from components.image_example_gen import artifact, executor
from components.image_example_gen.config import IngestSettings


class ImageExampleGenSpec(component_spec.ComponentSpec):
    """Parameters and output of ImageExampleGen."""

    PARAMETERS = {
        executor.SETTINGS: component_spec.ExecutionParameter(type=str),
        executor.SOURCE: component_spec.ExecutionParameter(type=str),
        executor.FINGERPRINT: component_spec.ExecutionParameter(type=str),
        executor.LABELLED_ONLY: component_spec.ExecutionParameter(type=int),
    }
    INPUTS: dict = {}
    OUTPUTS = {artifact.EXAMPLES: component_spec.ChannelParameter(type=standard_artifacts.Examples)}


class ImageExampleGen(base_beam_component.BaseBeamComponent):
    """Ingests images into TFRecords with the splits `unlabelled`, `train` and `test`.

    Unlike TFX's own ExampleGens it has no driver. Only the parameter `fingerprint` tells whether the images are new, so
    that the cache is right on every orchestrator.

    Args:
        settings: How images become examples.
        source: Local path or URI of the images, of any kind that `data.source` takes.
        fingerprint: Fingerprint of the source's contents, see `components.image_example_gen.fingerprint`.
        labelled_only: Whether to leave the split `unlabelled` empty, for a set to evaluate with.
    """

    SPEC_CLASS = ImageExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(self, settings: IngestSettings, source: str, fingerprint: str, labelled_only: bool = False):
        spec = ImageExampleGenSpec(
            settings=settings.model_dump_json(),
            source=source,
            fingerprint=fingerprint,
            # Kubeflow Pipelines has no booleans in TFX's specs.
            labelled_only=int(labelled_only),
            examples=channel_utils.as_channel([standard_artifacts.Examples()]),
        )
        super().__init__(spec=spec)
