"""A worker pool of Beam whose workers are forked from an interpreter that has imported what they need.

It is to be run by `tests.interpreters`. Beam's own pool starts its workers as programs,
which import TensorFlow anew, for ten seconds each.
"""

import json
import os
import traceback
from typing import IO

from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.worker import worker_pool_main

from pipeline.engine import worker


class _Pool(worker_pool_main.BeamFnExternalWorkerPoolServicer):
    requests: IO[str]

    def StartWorker(self, request, context):
        """Starts a worker with the arguments that Beam's pool gives to a program."""
        arguments = {
            **{"--id": request.worker_id, "--control_endpoint": request.control_endpoint.url},
            **{"--logging_endpoint": request.logging_endpoint.url},
            **{"--artifact_endpoint": request.artifact_endpoint.url},
            **{"--provision_endpoint": request.provision_endpoint.url},
        }
        print(json.dumps([f"{name}={value}" for name, value in arguments.items()]), file=self.requests, flush=True)
        return beam_fn_api_pb2.StartWorkerResponse()


def _fork_workers(requests: int) -> None:
    with open(requests) as lines:
        for line in lines:
            if os.fork() == 0:
                try:
                    worker.main(json.loads(line))
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(0)


def main(port: int) -> None:
    """Serves until it is killed."""
    reader, writer = os.pipe()
    # Before gRPC starts threads, which a forked process would lack.
    if os.fork() == 0:
        os.close(writer)
        _fork_workers(reader)
        os._exit(0)
    os.close(reader)
    _Pool.requests = open(writer, "w")
    _, server = _Pool.start(port=port)
    server.wait_for_termination()
