"""Watches the components of a run by wrapping TFX's launcher, as LocalDagRunner has no hook of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from tfx.orchestration.portable import launcher


class Watcher(Protocol):
    """Receives the events of a run."""

    def started(self, component: str) -> None:
        """A component starts."""

    def ended(self, component: str, failed: bool) -> None:
        """A component has ended; its state is in ML Metadata unless it failed."""


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Calls a watcher when TFX's launcher starts a component, and when the component has ended."""
    original = launcher.Launcher

    class WatchedLauncher(original):  # type: ignore[misc, valid-type]
        """Launches one component."""

        def launch(self):
            """Launches the component: driver, executor, publisher."""
            component = self._pipeline_node.node_info.id
            watcher.started(component)
            try:
                execution = super().launch()
            except BaseException:
                watcher.ended(component, failed=True)
                raise
            watcher.ended(component, failed=False)
            return execution

    # LocalDagRunner looks the class up in its module.
    launcher.Launcher = WatchedLauncher
    try:
        yield
    finally:
        launcher.Launcher = original
