"""The pipeline options of Beam: what they say about where the workers run, and the flags that they become."""

from collections.abc import Mapping

# Beam's runners whose workers run in the process that starts them, without "Runner" at the end.
_IN_PROCESS = ("bundlebaseddirect", "direct", "fnapi", "prism")
# Beam's runners that give the work to a job server.
_PORTABLE = ("portable", "flink", "spark")
#: The runner that takes their place: it checks the job server and a worker, and explains what fails there.
CHECKED_RUNNER = "pipeline.engine.runner.CheckedPortableRunner"
# Beam's options that say where workers find packages.
_PACKAGES = {"sdk_container_image", "extra_packages", "extra_package", "setup_file", "requirements_file"}
# The kinds of workers that have their packages already. Only containers are started from an image.
_PREPARED = ("LOOPBACK", "EXTERNAL", "PROCESS")
_EMBEDDED = "embed"
_THIS_MACHINE = ("localhost", "127.0.0.1", "[::1]")


def flags(options: Mapping[str, str | int | float | bool]) -> list[str]:
    """Returns Beam's options as command-line arguments."""
    # Workers in separate processes must import TFX before TFDV, because this TFDV lacks a module that TFX provides.
    found = ["--beam_plugin=tfx"]
    for name, value in options.items():
        if name == "runner" and _uses_job_server(options):
            found.append(f"--runner={CHECKED_RUNNER}")
        elif value is True:
            found.append(f"--{name}")
        elif value is not False:
            found.append(f"--{name}={value}")
    prepared = _workers_are_here(options) or _environment(options) in _PREPARED
    if prepared and not set(options) & _PACKAGES:
        # Otherwise TFX packs its own sources for workers on other machines: 5 s for each component on 2 cores.
        found.append("--sdk_container_image=unused")
    return found


def workers_are_here(arguments: list[str]) -> bool:
    """Returns whether Beam's workers run on this machine, and not on those of Dataflow, Flink or Spark.

    Args:
        arguments: Beam's options as command-line arguments, as `flags` returns them.
    """
    named = [argument.removeprefix("--").split("=", 1) for argument in arguments if "=" in argument]
    return _workers_are_here(dict(named))


def _workers_are_here(options: Mapping[str, str | int | float | bool]) -> bool:
    if not options.get("runner") or _runner(options) in _IN_PROCESS or _environment(options) == "LOOPBACK":
        return True
    if options.get("job_endpoint") != _EMBEDDED:
        return False
    # An embedded job server runs in this process, but may use a worker pool on another machine.
    pool = str(options.get("environment_config", ""))
    return _environment(options) != "EXTERNAL" or pool.rpartition(":")[0] in _THIS_MACHINE


def _uses_job_server(options: Mapping[str, str | int | float | bool]) -> bool:
    """Returns whether a job server is named. Without one, Beam's runners for Flink and Spark start one themselves."""
    return _runner(options) == "portable" or (_runner(options) in _PORTABLE and bool(options.get("job_endpoint")))


def _runner(options: Mapping[str, str | int | float | bool]) -> str:
    # Beam knows its runners by their names in any case, with and without "Runner", and by their modules.
    return str(options.get("runner", "")).rpartition(".")[2].lower().removesuffix("runner")


def _environment(options: Mapping[str, str | int | float | bool]) -> str:
    return str(options.get("environment_type", "DOCKER")).upper()
