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
from ml_metadata.proto import metadata_store_pb2

from components.champion_resolver.component import ChampionResolver
from components.data_gate.component import DataGate
from components.data_resolver import executor as data_resolver
from components.data_resolver.component import DataResolver
from components.data_resolver.resolution import Resolution, recipe
from components.image_example_gen.component import ImageExampleGen
from components.linear_probe_evaluator.component import LinearProbeEvaluator
from components.registry_pusher.component import RegistryPusher
from components.schema_importer.component import SchemaImporter
from pipeline import provenance
from pipeline.config import Settings
from trainer import examples, run_fn
from trainer.config import CHAMPION

# Statistics over whole images are waste: 27 KB strings, each different.
_DESCRIBED_FEATURES = [
    *(examples.LABEL, examples.HEIGHT, examples.WIDTH),
    *(examples.FOLD, examples.PIXEL_MEAN, examples.PIXEL_STD),
]


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
    """The pipeline, for any orchestrator.

    Args:
        settings: with a data source.
        data: what the run works on; ingest is repeated when it changes. Where it is not known beforehand, None: then a
            first component, DataResolver, finds it out.
        run_id: new in every run.
        pipeline_root: where artifacts go.
        registry_directory: of the embedded registry, used when `MLFLOW_TRACKING_URI` is not set.
        checkpoint_root: where unfinished trainings keep their state.
        champion: identity of the registry's champion, where it is known beforehand.
        enable_cache: take a component's earlier result where its inputs and parameters are the same.
        metadata: connection to ML Metadata, where the orchestrator does not bring its own.
    """
    resolver = None if data else _data_resolver(settings, run_id, registry_directory)
    ingest = ImageExampleGen(
        source=data.source if data else _value(resolver, data_resolver.FOUND_SOURCE),
        fingerprint=data.fingerprint if data else _value(resolver, data_resolver.FOUND_FINGERPRINT),
        image_size=settings.data.image_size,
        max_rejected=settings.data.max_rejected,
    )
    statistics = StatisticsGen(
        examples=ingest.outputs["examples"],
        stats_options=tfdv.StatsOptions(feature_allowlist=_DESCRIBED_FEATURES),
    )
    schema = SchemaImporter((resources.files("pipeline") / "schema" / "schema.pbtxt").read_text(encoding="utf-8"))
    validator = ExampleValidator(statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"])
    gate = DataGate(statistics=statistics.outputs["statistics"], anomalies=validator.outputs["anomalies"])
    warm = settings.trainer.warm_start == CHAMPION
    champion_resolver = ChampionResolver(
        model_name=settings.registry.model_name,
        alias=settings.registry.alias,
        registry_directory=registry_directory,
        expected=champion,
        required=settings.evaluator.needs_champion or warm,
    )
    # The Trainer is never given the split `test`.
    trainer = Trainer(
        run_fn=f"{run_fn.__name__}.run_fn",
        examples=ingest.outputs["examples"],
        train_args=trainer_pb2.TrainArgs(splits=[examples.UNLABELLED]),
        eval_args=trainer_pb2.EvalArgs(splits=[examples.TRAIN]),
        base_model=champion_resolver.outputs["model"] if warm else None,
        custom_config={
            run_fn.SETTINGS: settings.trainer.model_dump_json(),
            run_fn.CHECKPOINTS: checkpoint_root,
        },
    )
    trainer.add_upstream_node(gate)
    labelled = None
    if settings.evaluator.data:
        labelled = ImageExampleGen(
            source=settings.evaluator.data,
            fingerprint=data.labelled_fingerprint if data else _value(resolver, data_resolver.LABELLED_FINGERPRINT),
            image_size=settings.data.image_size,
            max_rejected=settings.data.max_rejected,
            labelled_only=True,
        ).with_id("LabelledExampleGen")
    evaluator = LinearProbeEvaluator(
        examples=ingest.outputs["examples"],
        model=trainer.outputs["model"],
        model_run=trainer.outputs["model_run"],
        champion=champion_resolver.outputs["model"],
        settings=settings.evaluator,
        labelled_examples=labelled.outputs["examples"] if labelled else None,
    )
    pusher = RegistryPusher(
        model=trainer.outputs["model"],
        evaluation=evaluator.outputs["evaluation"],
        blessing=evaluator.outputs["blessing"],
        model_name=settings.registry.model_name,
        alias=settings.registry.alias,
        registry_directory=registry_directory,
        pipeline_run=run_id,
        recipe=recipe(settings.deciding()) if data else _value(resolver, data_resolver.RECIPE),
        provenance={
            **provenance.code(),
            # Beam's options may name credentials; where it ran says nothing about the encoder.
            "settings": settings.model_dump(mode="json", exclude={"beam", "kubeflow"}),
        },
        artifact_location=settings.registry.artifact_location,
        serving_directory=settings.registry.serving_directory,
    )
    components = [ingest, statistics, schema, validator, gate, champion_resolver, trainer, evaluator, pusher]
    components += [component for component in (resolver, labelled) if component]
    return Pipeline(
        pipeline_name=settings.name,
        pipeline_root=pipeline_root,
        components=components,
        enable_cache=enable_cache,
        metadata_connection_config=metadata,
        beam_pipeline_args=settings.beam_pipeline_args(),
    )


def _data_resolver(settings: Settings, run_id: str, registry_directory: str) -> DataResolver:
    return DataResolver(
        source=settings.data.source or "",
        span=settings.data.span or "",
        settled_minutes=settings.data.settled_minutes,
        fingerprint="",
        labelled_source=settings.evaluator.data or "",
        settings=settings.deciding(),
        only_new=settings.data.only_new,
        model_name=settings.registry.model_name,
        registry_directory=registry_directory,
        pipeline_run=run_id,
    )


def _value(resolver: DataResolver | None, output: str) -> Any:
    """A value that is known only when the run has begun."""
    assert resolver is not None
    return resolver.outputs[output].future()[0].value
