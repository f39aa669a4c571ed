"""The metrics of a training over time: in memory, in `history.csv`, for TensorBoard and for observers."""

import csv

import tensorflow as tf

from trainer import aside, observing


class History:
    """The metrics of one training, one row for each measurement.

    Args:
        directory: Folder for TensorBoard logs and `history.csv`; None writes neither.
        rows: Rows from before an interruption. They are written again, so that the curves are complete.
    """

    def __init__(self, directory: str | None, rows: list[dict[str, float]]):
        self.rows: list[dict[str, float]] = []
        self._directory = directory
        if directory:
            _delete_event_files(directory)
        self._writer = tf.summary.create_file_writer(directory) if directory else tf.summary.create_noop_writer()
        for row in rows:
            self._log(row)
        if rows:
            self._write()

    def append(self, row: dict[str, float]) -> None:
        """Adds a row, which must contain `step`."""
        self._log(row)
        self._write()

    def close(self) -> None:
        """Flushes TensorBoard's logs."""
        self._writer.close()

    def _log(self, row: dict[str, float]) -> None:
        self.rows.append(row)
        with self._writer.as_default(step=int(row["step"])):
            for name, value in row.items():
                if name != "step":
                    tf.summary.scalar(name, value)
        self._writer.flush()
        observing.tell(row)

    def _write(self) -> None:
        if self._directory is None:
            return
        path = f"{self._directory}/history.csv"
        unfinished = aside.beside(path)
        with tf.io.gfile.GFile(unfinished, "w") as file:
            # A measurement may lack figures that others have.
            writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(name for row in self.rows for name in row)))
            writer.writeheader()
            writer.writerows(self.rows)
        tf.io.gfile.rename(unfinished, path, overwrite=True)


def _delete_event_files(directory: str) -> None:
    """Deletes TensorBoard's files of an interrupted training: its rows are written again, and would be shown twice."""
    for file in tf.io.gfile.glob(f"{directory}/events.out.tfevents.*"):
        tf.io.gfile.remove(file)
