"""When Argo starts a failed step of Kubeflow Pipelines again: its rule, as its workflow controller applies it.

Sources: `processNodeRetries` and `executionDeadline` in Argo's workflow/controller/operator.go, and the compilation of
a `RetryPolicy` in Kubeflow Pipelines' backend/src/v2/compiler/argocompiler.
"""

import enum

from google.protobuf.duration_pb2 import Duration
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineTaskSpec


class Failure(enum.Enum):
    """How an attempt ended."""

    CONTAINER = "the container exited with an error, or the node evicted the pod"
    POD = "the pod was deleted, or lost with its node"


class Retries(enum.Enum):
    """What an installation retries: the policy that its workflows get, by the default of Argo or of its controller."""

    KFP_2_14_TO_2_16 = frozenset({Failure.CONTAINER})
    KFP_2_17 = frozenset({Failure.POD})
    #: With infra/kubernetes/workflow-controller.
    ALWAYS = frozenset({Failure.CONTAINER, Failure.POD})


def deadline_seconds(policy: PipelineTaskSpec.RetryPolicy) -> float:
    """Seconds after the start of the first attempt at which Argo ends the attempt that runs, and starts no other.

    Kubeflow Pipelines 2.14 and newer write 0 if the pipeline gives no duration.
    """
    longest: Duration = policy.backoff_max_duration
    return longest.seconds + longest.nanos / 1e9


def is_retried(
    policy: PipelineTaskSpec.RetryPolicy, retries: Retries, failure: Failure, attempts: int, seconds: float
) -> bool:
    """Whether Argo starts another attempt.

    Args:
        policy: The policy in the compiled pipeline.
        retries: What the installation retries.
        failure: How the last attempt ended.
        attempts: Number of attempts so far.
        seconds: Seconds since the start of the first attempt.
    """
    return failure in retries.value and attempts <= policy.max_retry_count and seconds < deadline_seconds(policy)
