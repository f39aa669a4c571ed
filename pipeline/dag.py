"""The whole DAG on one screen.

Imports come from where things are defined: `tfx.v1` would load the client of Google's AI Platform as well, for seconds.
"""

from importlib import resources
from typing import Any

# TFX first: it brings a module that this TFDV misses.
from tfx.components import ExampleValidator, StatisticsGen, Trainer
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import trainer_pb2

# isort: split
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from ml_metadata.proto import metadata_store_pb2
from tensorflow_metadata.proto.v0 import schema_pb2

from components.champion_resolver.component import ChampionResolver
from components.data_gate.artifact import DATA_CHECKS
from components.data_gate.component import DataGate, ValidatedExamples
from components.data_resolver import artifact as resolved
from components.data_resolver.component import DataResolver
from components.data_resolver.resolution import Resolution, settings_fingerprint
from components.image_example_gen.artifact import EXAMPLES
from components.image_example_gen.component import ImageExampleGen
from components.image_example_gen.config import IngestSettings
from components.linear_probe_evaluator.artifact import BLESSING, EVALUATION
from components.linear_probe_evaluator.component import LinearProbeEvaluator
from components.model_registry.config import ChampionSettings
from components.registry_pusher.component import RegistryPusher
from components.run_settings import RunSettings
from components.schema_importer.component import SchemaImporter
from pipeline import provenance
from pipeline.config import Settings
from trainer import run_fn, splits
from trainer.config import CHAMPION

_SCHEMA = (resources.files("pipeline") / "schema" / "schema.pbtxt").read_text(encoding="utf-8")
# DataGate compares distributions by the histograms, takes shares of the images from the quantiles, and counts so many
# classes at most.
STATISTICS_OPTIONS = tfdv.StatsOptions(
    # Statistics over whole images are waste: 27 KB strings, each different.
    feature_allowlist=[feature.name for feature in text_format.Parse(_SCHEMA, schema_pb2.Schema()).feature],
    num_histogram_buckets=20,
    # TFDV's time grows with the square of this number.
    num_quantiles_histogram_buckets=20,
    num_rank_histogram_buckets=10_000,
)


class _Validation:
    """The components that describe a set of examples and validate them against the schema.

    Args:
        ingest: Writes the examples.
        schema: Writes the schema.
        prefix: Beginning of the components' ids.
    """

    def __init__(self, ingest: ImageExampleGen, schema: SchemaImporter, prefix: str = ""):
        statistics = StatisticsGen(
            examples=ingest.outputs[EXAMPLES], schema=schema.outputs["schema"], stats_options=STATISTICS_OPTIONS
        ).with_id(f"{prefix}StatisticsGen")
        validator = ExampleValidator(
            statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
        ).with_id(f"{prefix}ExampleValidator")
        self.components = [ingest, statistics, validator]
        self.outputs = ValidatedExamples(
            ingest.outputs[EXAMPLES], statistics.outputs["statistics"], validator.outputs["anomalies"]
        )


def create_pipeline(
    settings: Settings,
    data: Resolution | None,
    run_id: str,
    pipeline_root: str,
    registry_directory: str,
    checkpoint_root: str,
    champion: str | None = None,
    enable_cache: bool = True,
    metadata: metadata_store_pb2.ConnectionConfig | None = None,
) -> Pipeline:
    """Makes the pipeline, for any orchestrator.

    Args:
        settings: All settings. The data source must be set.
        data: The images of the run, if they are known beforehand. If None, a first component, DataResolver, resolves
            them and the champion.
        run_id: Id of the run, which differs in every run.
        pipeline_root: Path or URI of the folder for artifacts.
        registry_directory: Folder of the embedded registry, which is used if `MLFLOW_TRACKING_URI` is not set.
        checkpoint_root: Path or URI of the folder for the checkpoints of unfinished trainings.
        champion: Identity of the registry's champion, if the images are known beforehand.
        enable_cache: Whether to reuse the earlier result of a component with the same inputs and parameters.
        metadata: Connection to ML Metadata, if the orchestrator does not bring its own.
    """
    run_settings = settings.narrow(RunSettings)
    resolver = None if data else DataResolver(run_settings, registry_directory, run_id)

    def value(known: str | None, output: str) -> Any:
        """Returns a value that is known beforehand, or else DataResolver's output that will hold it."""
        return resolver.outputs[output].future()[0].value if resolver else known

    ingest = ImageExampleGen(
        settings.data.narrow(IngestSettings),
        source=value(data.source if data else None, resolved.SOURCE),
        fingerprint=value(data.fingerprint if data else None, resolved.FINGERPRINT),
    )
    schema = SchemaImporter(_SCHEMA)
    images = _Validation(ingest, schema)
    labelled = None
    if settings.evaluator.data:
        labelled_ingest = ImageExampleGen(
            settings.data.narrow(IngestSettings),
            source=settings.evaluator.data,
            fingerprint=value(data.labelled_fingerprint if data else None, resolved.LABELLED_FINGERPRINT),
            labelled_only=True,
        ).with_id("LabelledExampleGen")
        labelled = _Validation(labelled_ingest, schema, "Labelled")
    warm = settings.trainer.warm_start == CHAMPION
    champion_resolver = ChampionResolver(
        settings.registry.narrow(ChampionSettings),
        registry_directory,
        expected=value(champion, resolved.CHAMPION),
        required=settings.evaluator.needs_champion or warm,
    )
    gate = DataGate(
        images.outputs,
        champion=champion_resolver.outputs["model"],
        settings=settings.gate,
        labelled=labelled.outputs if labelled else None,
    )
    # The Trainer is never given the split `test`.
    trainer = Trainer(
        run_fn=f"{run_fn.__name__}.run_fn",
        examples=ingest.outputs[EXAMPLES],
        train_args=trainer_pb2.TrainArgs(splits=[splits.UNLABELLED]),
        eval_args=trainer_pb2.EvalArgs(splits=[splits.TRAIN]),
        base_model=champion_resolver.outputs["model"] if warm else None,
        custom_config={
            run_fn.SETTINGS: settings.trainer.model_dump_json(),
            run_fn.CHECKPOINTS: checkpoint_root,
        },
    )
    trainer.add_upstream_node(gate)
    evaluator = LinearProbeEvaluator(
        examples=ingest.outputs[EXAMPLES],
        model=trainer.outputs["model"],
        model_run=trainer.outputs["model_run"],
        champion=champion_resolver.outputs["model"],
        data_checks=gate.outputs[DATA_CHECKS],
        settings=settings.evaluator,
        labelled_examples=labelled.outputs.examples if labelled else None,
    )
    pusher = RegistryPusher(
        model=trainer.outputs["model"],
        evaluation=evaluator.outputs[EVALUATION],
        blessing=evaluator.outputs[BLESSING],
        data_checks=gate.outputs[DATA_CHECKS],
        settings=run_settings,
        settings_fingerprint=value(settings_fingerprint(run_settings), resolved.SETTINGS_FINGERPRINT),
        registry_directory=registry_directory,
        pipeline_run=run_id,
        code=provenance.code_version(),
    )
    components = [*images.components, schema, gate, champion_resolver, trainer, evaluator, pusher]
    components += [resolver] if resolver else []
    components += labelled.components if labelled else []
    return Pipeline(
        pipeline_name=settings.name,
        pipeline_root=pipeline_root,
        components=components,
        enable_cache=enable_cache,
        metadata_connection_config=metadata,
        beam_pipeline_args=settings.beam_pipeline_args(),
    )
