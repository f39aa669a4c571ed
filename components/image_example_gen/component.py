"""The contract of ImageExampleGen."""

from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import channel_utils, component_spec, standard_artifacts

from components.image_example_gen import executor


class ImageExampleGenSpec(component_spec.ComponentSpec):
    """Parameters and output of ImageExampleGen."""

    PARAMETERS = {
        executor.SOURCE: component_spec.ExecutionParameter(type=str),
        executor.FINGERPRINT: component_spec.ExecutionParameter(type=str),
        executor.IMAGE_SIZE: component_spec.ExecutionParameter(type=int),
        executor.MAX_REJECTED: component_spec.ExecutionParameter(type=int),
        executor.LABELLED_ONLY: component_spec.ExecutionParameter(type=int),
    }
    INPUTS: dict = {}
    OUTPUTS = {executor.EXAMPLES: component_spec.ChannelParameter(type=standard_artifacts.Examples)}


class ImageExampleGen(base_beam_component.BaseBeamComponent):
    """Ingests images into TFRecords with the splits `unlabelled`, `train` and `test`.

    Unlike TFX's own ExampleGens it has no driver: what is new is told by the parameter `fingerprint` alone, so that
    caching is right on every orchestrator.

    Args:
        source: an STL-10 directory or archive, a TFDS data_dir, or a folder of pictures; local or `gs://`.
        fingerprint: of the source's contents, see `components.image_example_gen.fingerprint`.
        image_size: height and width of the images to write.
        max_rejected: how many undecodable pictures are tolerated.
        labelled_only: leave the split `unlabelled` empty, for a set to evaluate with.
    """

    SPEC_CLASS = ImageExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self, source: str, fingerprint: str, image_size: int, max_rejected: int = 0, labelled_only: bool = False
    ):
        spec = ImageExampleGenSpec(
            source=source,
            fingerprint=fingerprint,
            image_size=image_size,
            max_rejected=max_rejected,
            # Kubeflow knows no booleans.
            labelled_only=int(labelled_only),
            examples=channel_utils.as_channel([standard_artifacts.Examples()]),
        )
        super().__init__(spec=spec)
