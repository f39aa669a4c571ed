"""The aliases of registered models: which version each points to, and moves, all of which are recorded."""

from dataclasses import replace

from components.model_registry import history
from components.model_registry.connection import Connection
from components.model_registry.history import Move


def alias_targets(connection: Connection, name: str) -> dict[str, int]:
    """Returns the number of the version that each alias of a registered model points to."""
    model = connection.client.get_registered_model(name)
    return {alias: int(version) for alias, version in model.aliases.items()}


class Aliases:
    """Moves of aliases, and their history; a part of `ModelRegistry`.

    Attributes:
        connection: The connection to the registry.
    """

    connection: Connection

    def history(self, name: str) -> list[Move]:
        """Returns all recorded moves of a registered model's aliases, oldest first."""
        with self.connection.readable_errors():
            tags = self.connection.client.get_registered_model(name).tags
            return history.from_tags(tags, alias_targets(self.connection, name))

    def move_alias(self, name: str, move: Move) -> None:
        """Points an alias to a version, and records the move.

        An alias that already points to the version stays as it is. If the same author began the same move before and
        was interrupted, the existing record is completed.

        Args:
            name: The name of the registered model.
            move: The move; its `previous` is not used but read from the registry.

        Raises:
            RegistryError: If the version does not exist, or the registry does not answer.
        """
        with self.connection.readable_errors():
            previous = alias_targets(self.connection, name).get(move.alias)
            recorded = [known for known in self.history(name) if known.alias == move.alias]
            last = recorded[-1] if recorded else None
            if last and not last.done and (last.version, last.by) == (move.version, move.by):
                record = last
            elif previous == move.version:
                return
            else:
                self._record_external_move(name, move.alias, previous, recorded)
                record = replace(move, previous=previous, done=False).stamped()
                self._write(name, record)
            self._point(name, move.alias, move.version)
            self._write(name, replace(record, done=True))

    def _record_external_move(self, name: str, alias: str, current: int | None, recorded: list[Move]) -> None:
        """Records a move by another tool, if the alias is elsewhere than after its last recorded move."""
        completed = history.completed_moves(recorded, alias)
        last = completed[-1].version if completed else None
        if current is None or not recorded or last == current:
            return
        reason = "The alias was moved by other means than nnclr."
        move = Move(alias, last, current, history.EXTERNAL, "unknown", reason, done=True)
        self._write(name, move.stamped())

    def _write(self, name: str, record: Move) -> None:
        self.connection.client.set_registered_model_tag(name, *record.as_tag())

    def _point(self, name: str, alias: str, version: int) -> None:
        from mlflow.exceptions import MlflowException

        client = self.connection.client
        try:
            client.set_registered_model_alias(name, alias, str(version))
        except MlflowException:
            # MLflow looks for the alias before it adds it: if two processes add it at once, one of them fails.
            if alias not in alias_targets(self.connection, name):
                raise
            client.set_registered_model_alias(name, alias, str(version))
