"""Which failures of a compiled step Argo retries, and for how long."""

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineTaskSpec

from pipeline import config
from pipeline.kubeflow import compile as kubeflow
from tests.pipeline.kubeflow.argo import Failure, Retries, is_retried
from tests.pipeline.kubeflow.test_compile import EVERYTHING, tasks

DAY = 24 * 3600.0


def policy(**changes) -> PipelineTaskSpec.RetryPolicy:
    """The policy of the Trainer, as compiled."""
    spec, _ = kubeflow.compile_pipeline(config.load("sample", overrides=EVERYTHING))
    compiled = tasks(spec)["Trainer"]["retryPolicy"] | changes
    found = PipelineTaskSpec.RetryPolicy()
    json_format.ParseDict({name: value for name, value in compiled.items() if value is not None}, found)
    return found


@pytest.mark.parametrize("seconds", [60, 2 * 3600, 25 * DAY])
def test_a_failed_training_is_retried_however_long_it_had_run(seconds):
    compiled = policy()
    allowed = [is_retried(compiled, Retries.ALWAYS, Failure.CONTAINER, attempts, seconds) for attempts in (1, 2, 3)]
    assert allowed == [True, True, False]


def test_a_shorter_or_absent_duration_would_end_the_retries_of_a_long_training():
    assert not is_retried(policy(backoffMaxDuration="3600s"), Retries.ALWAYS, Failure.CONTAINER, 1, 2 * 3600)
    assert not is_retried(policy(backoffMaxDuration=None), Retries.ALWAYS, Failure.CONTAINER, 1, 1)


@pytest.mark.parametrize(
    ("retries", "container", "pod"),
    [
        (Retries.KFP_2_14_TO_2_16, True, False),
        (Retries.KFP_2_17, False, True),
        (Retries.ALWAYS, True, True),
    ],
)
def test_what_is_retried_depends_on_the_installation_as_infra_readme_says(retries, container, pod):
    compiled = policy()
    found = [is_retried(compiled, retries, failure, 1, DAY) for failure in (Failure.CONTAINER, Failure.POD)]
    assert found == [container, pod]
