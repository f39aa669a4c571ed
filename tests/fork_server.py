"""The fork server of `multiprocessing`, for Python functions that tests run in processes of their own.

A process has one fork server. It imports what every test module of the session asked for, and computes nothing, so that
a process that it starts costs a second and not twenty.
"""

import multiprocessing

context = multiprocessing.get_context("forkserver")
_modules: list[str] = []


def preload(*modules: str) -> None:
    """Has the fork server import these modules, too. To be called when a test module is imported."""
    _modules.extend(modules)
    context.set_forkserver_preload(_modules)
