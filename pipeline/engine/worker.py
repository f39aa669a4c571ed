"""The command `nnclr-beam-worker`: a Beam worker in this environment, for machines without containers.

An engine, or a worker pool of Beam, starts it with the arguments that a container of Beam's SDK gets. It stands in for
`boot`, which only Beam's container images have. In contrast to a worker that Beam's pool starts by itself, it reads the
options of the pipeline and therefore imports `--beam_plugin=tfx`, without which TFDV cannot be imported.
"""

import argparse
import os
import tempfile

import grpc
from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc, endpoints_pb2
from apache_beam.runners.worker import sdk_worker_main
from apache_beam.runners.worker.worker_id_interceptor import WorkerIdInterceptor
from google.protobuf import json_format, text_format


def main(argv: list[str] | None = None) -> None:
    """Runs a worker until the engine ends it."""
    parser = argparse.ArgumentParser(prog="nnclr-beam-worker", description="Run a Beam worker, as an engine starts it.")
    parser.add_argument("--id", required=True, help="id of the worker")
    parser.add_argument("--provision_endpoint", required=True, help="address that tells the options of the pipeline")
    parser.add_argument("--control_endpoint", required=True, help="address that tells the worker what to do")
    parser.add_argument("--logging_endpoint", help="address for the worker's log")
    # The worker's environment has all packages, so that nothing is fetched from `--artifact_endpoint`.
    arguments, _ = parser.parse_known_args(argv)
    with tempfile.TemporaryDirectory(prefix="nnclr-beam-worker-") as scratch:
        os.environ |= _environment(arguments, scratch)
        sdk_worker_main.main([])


def _environment(arguments: argparse.Namespace, scratch: str) -> dict[str, str]:
    """Returns the environment variables through which Beam's worker is told what the arguments say."""
    with grpc.insecure_channel(arguments.provision_endpoint) as channel:
        service = beam_provision_api_pb2_grpc.ProvisionServiceStub(
            grpc.intercept_channel(channel, WorkerIdInterceptor(arguments.id))
        )
        info = service.GetProvisionInfo(beam_provision_api_pb2.GetProvisionInfoRequest()).info
    environment = {
        "WORKER_ID": arguments.id,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
        "SEMI_PERSISTENT_DIRECTORY": scratch,
        # The engine may name better addresses than those of the arguments.
        "CONTROL_API_SERVICE_DESCRIPTOR": _descriptor(info.control_endpoint.url or arguments.control_endpoint),
    }
    logging = info.logging_endpoint.url or arguments.logging_endpoint
    if logging:
        environment["LOGGING_API_SERVICE_DESCRIPTOR"] = _descriptor(logging)
    if info.status_endpoint.url:
        environment["STATUS_API_SERVICE_DESCRIPTOR"] = _descriptor(info.status_endpoint.url)
    return environment


def _descriptor(address: str) -> str:
    return text_format.MessageToString(endpoints_pb2.ApiServiceDescriptor(url=address))


if __name__ == "__main__":
    main()
