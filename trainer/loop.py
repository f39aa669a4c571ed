"""The training loop: one strategy-wide step in a graph, measured, saved and resumed; on one device or many machines."""

import dataclasses
import logging
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from trainer import checkpoints, data, devices, diagnosis, examples, export
from trainer.config import TrainerSettings
from trainer.errors import SettingsError, Stopped
from trainer.history import History
from trainer.nnclr import NNCLR
from trainer.outcome import TrainingResult
from trainer.plan import Plan
from trainer.progress import Reporter
from trainer.stopping import StopRequest
from trainer.watch import Watch

logger = logging.getLogger("nnclr")

_ASKED = "asked_to_stop"


@dataclass(frozen=True)
class Job:
    """What to train on, and where to leave what.

    Attributes:
        unlabelled_files: TFRecords to pretrain on.
        labelled_files: TFRecords of labelled images for the online probe, which may hold none.
        run_dir: where TensorBoard logs and `history.csv` go; nowhere if None.
        checkpoint_root: below it checkpoints go, into a folder for these settings and data; nowhere if None. Several
            machines must share it.
        warm_start: folder of an exported encoder whose weights to start from.
    """

    unlabelled_files: list[str]
    labelled_files: list[str]
    run_dir: str | None = None
    checkpoint_root: str | None = None
    warm_start: str | None = None


@dataclass
class _Interval:
    """Sums since the last measurement."""

    steps: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, metrics: dict[str, float]) -> None:
        self.steps += 1
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + value


def train(
    settings: TrainerSettings, job: Job, strategy: tf.distribute.Strategy | None = None
) -> tuple[NNCLR, TrainingResult]:
    """Pretrains an encoder, going on from the last checkpoint of the same settings and data if there is one.

    Args:
        settings: the trainer's.
        job: data and folders.
        strategy: how to distribute; by default over every GPU of this machine, or the machines of `TF_CONFIG`.

    Raises:
        DataError: there are too few images for the batch.
        SettingsError: there is no GPU where one is demanded, a batch cannot be shared evenly by the replicas, or the
            warm start has another architecture.
        Stopped: SIGTERM came; the state is saved.
        KeyboardInterrupt: SIGINT came; the state is saved.
        TrainingError: loss or gradients are not finite, or the encoder collapsed; it says where and what to do.
    """
    training = _Training(settings, job, strategy or devices.default_strategy(settings.devices, settings.xla))
    with StopRequest() as stop:
        result = training.run(stop)
        # One that came after the last step was read.
        training.end_if_asked(stop)
    return training.model, result


class _Training:
    def __init__(self, settings: TrainerSettings, job: Job, strategy: tf.distribute.Strategy):
        self._settings, self._job, self._strategy = settings, job, strategy
        require_even_shares(settings, strategy.num_replicas_in_sync)
        contents, labelled_contents = data.survey(job.unlabelled_files), data.survey(job.labelled_files)
        self._plan = Plan.of(settings, contents.records)
        self._size = examples.image_size(job.unlabelled_files)
        labels = data.labels(job.labelled_files)
        self._labelled: data.LabelledSplit | None = None
        if labels.size:
            self._labelled = data.LabelledSplit(job.labelled_files, self._size, settings.online_probe.holdout)
        self._watch = Watch(settings, job.unlabelled_files, self._labelled, self._size)

        keras.utils.set_random_seed(settings.seed)
        dtype = devices.compute_dtype(settings.precision)
        classes = int(labels.max()) + 1 if labels.size else 0
        with strategy.scope():
            self.model = NNCLR(settings, self._plan, self._size, classes, dtype)
        self._state = self.model.state()
        self._metric_names: list[str] = []
        self._graph_step = self._compiled_step()

        self._step, self._seconds, self._interval = 0, 0.0, _Interval()
        self._unread: list[tuple[int, tf.Tensor]] = []
        self._is_chief = devices.is_chief(strategy)
        self._checkpoints: checkpoints.Checkpoints | None = None
        if job.checkpoint_root is not None:
            # How often it is saved, and on which devices it goes on, changes nothing in a training.
            own = settings.model_dump_json(exclude={"checkpoint", "devices"})
            start = export.fingerprint(job.warm_start) if job.warm_start else ""
            key = checkpoints.key(own, contents.fingerprint, labelled_contents.fingerprint, start)
            self._checkpoints = checkpoints.Checkpoints(job.checkpoint_root, key, settings.checkpoint.keep)
        rows = self._begin()
        self._history = History(job.run_dir if self._is_chief else None, rows)

    def run(self, stop: StopRequest) -> TrainingResult:
        """Trains to the end of the plan."""
        plan, batch_size = self._plan, self._settings.batch_size
        reporter = Reporter("Training", plan.steps * batch_size, self._step * batch_size)
        while self._step < plan.steps:
            epoch, offset = plan.place(self._step)
            self._clock = time.monotonic()
            for batch in self._batches(epoch, offset):
                asked_here = tf.constant(float(stop.signal is not None))
                view_size = self.model.view_size(self._step)
                metrics = self._graph_step(batch, self._step_tensor(), asked_here, view_size)
                self._unread.append((self._step + 1, metrics))
                self._step += 1
                reporter.advance(batch_size, self._note(epoch))
                watch_now, save_now = self._is_due(plan.watch_every), self._is_due(plan.checkpoint_every)
                # A step's metrics are read when the next one is under way, so that a GPU does not wait for the host.
                asked = self._read(leave=0 if watch_now or save_now else 1)
                if not (watch_now or save_now or asked):
                    continue
                self._read(leave=0)
                self._lap()
                if watch_now:
                    self._measure()
                if save_now or asked:
                    self._save()
                if asked:
                    self._end_early(stop)
                self._clock = time.monotonic()
                if self._step == plan.steps:
                    break
            self._read(leave=0)
            self._lap()
        self._history.close()
        return TrainingResult(
            image_size=self._size,
            steps=self._step,
            seconds=self._seconds,
            images_per_second=self._step * batch_size / max(self._seconds, 1e-9),
            history=self._history.rows,
            checkpoints=self._checkpoints,
            is_chief=self._is_chief,
        )

    def _step_tensor(self) -> tf.Tensor:
        return tf.constant(self._step, tf.int64)

    def _is_due(self, every: int) -> bool:
        return self._step % every == 0 or self._step == self._plan.steps

    def _lap(self) -> None:
        """Counts the time since the clock was started as training."""
        seconds = time.monotonic() - self._clock
        self._seconds += seconds
        self._interval.seconds += seconds
        self._clock = time.monotonic()

    def _compiled_step(self) -> Callable[..., tf.Tensor]:
        """The step of all replicas as one graph: a vector of its metrics, and whether any machine was asked to stop."""
        strategy, replicas = self._strategy, self._strategy.num_replicas_in_sync

        def replica_step(batch, step, asked_here, view_size):
            shares = self.model.train_step(batch["unlabelled"], batch.get("labelled"), step, view_size)
            return shares | {_ASKED: asked_here / replicas}

        @tf.function(autograph=False)
        def graph_step(batch, step, asked_here, view_size):
            # A graph for each size of the views, of which there are two at most.
            shares = strategy.run(replica_step, args=(batch, step, asked_here, view_size))
            metrics = {name: strategy.reduce(tf.distribute.ReduceOp.SUM, share, None) for name, share in shares.items()}
            self._metric_names[:] = metrics
            # One vector, so that a step costs the loop one small transfer.
            return tf.stack([tf.cast(value, tf.float32) for value in metrics.values()])

        return graph_step

    def _order(self, epoch: int) -> data.Order:
        return data.Order(self._settings.shuffle_buffer, self._settings.seed, epoch)

    def _batches(self, epoch: int, offset: int) -> Iterable[Any]:
        settings, files, order = self._settings, self._job.unlabelled_files, self._order(epoch)

        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            parts = {
                "unlabelled": data.unlabelled_batches(files, self._size, settings.batch_size, order, offset, context)
            }
            if self._labelled is not None:
                batch = settings.online_probe.batch_size
                parts["labelled"] = self._labelled.training_batches(batch, order, offset, context)
            return data.untuned(tf.data.Dataset.zip(parts).prefetch(2))

        return self._strategy.distribute_datasets_from_function(of_worker)

    def _read(self, leave: int) -> bool:
        """Takes the metrics of all but the last `leave` steps; whether any machine was asked to stop."""
        asked = False
        while len(self._unread) > leave:
            step, vector = self._unread.pop(0)
            metrics = dict(zip(self._metric_names, vector.numpy().tolist(), strict=True))
            asked = metrics.pop(_ASKED) > 0 or asked
            if not diagnosis.is_finite(metrics):
                raise diagnosis.divergence(step, metrics, self._learning_rate(step), self._ids(step))
            self._interval.add(metrics)
        return asked

    def _ids(self, step: int) -> list[str]:
        epoch, index = self._plan.place(step - 1)
        return data.batch_ids(self._job.unlabelled_files, self._settings.batch_size, self._order(epoch), index)

    def _learning_rate(self, step: int) -> float:
        return float(self.model.learning_rate(step - 1))

    def _measure(self) -> None:
        """Adds a row to the history: means since the last one, and what the fixed images say now."""
        interval, batch_size = self._interval, self._settings.batch_size
        row: dict[str, float] = {"epoch": -(-self._step // self._plan.steps_per_epoch), "step": self._step}
        row |= {name: total / interval.steps for name, total in interval.sums.items()}
        row["learning_rate"] = self._learning_rate(self._step)
        row |= self._watch.measure(self.model)
        row["images_per_second"] = interval.steps * batch_size / max(interval.seconds, 1e-9)
        self._interval = _Interval()
        self._history.append(row)
        diagnosis.require_no_collapse(self._settings, self._history.rows)

    def _note(self, epoch: int) -> str:
        """A few words for the progress line."""
        parts = [f"epoch {epoch}/{self._plan.epochs}"]
        if self._history.rows:
            last = self._history.rows[-1]
            parts.append(f"loss {last['c_loss']:.3f}")
            shown = (("probe", "val_p_acc"), ("kNN", "knn_acc"))
            parts += [f"{what} {last[name]:.1%}" for what, name in shown if name in last]
        return ", ".join(parts)

    def _begin(self) -> list[dict[str, float]]:
        """Restores the last checkpoint, or starts from the given weights; returns the history so far."""
        shapes = {name: tuple(variable.shape) for name, variable in self._state.items()}
        found = self._checkpoints.latest(shapes) if self._checkpoints is not None else None
        self._require_same_start(found.step if found else 0)
        if found is None:
            if self._job.warm_start is not None:
                with self._strategy.scope():
                    export.load_weights(self.model.encoder, self._settings, self._size, self._job.warm_start)
            return []
        for name, variable in self._state.items():
            variable.assign(found.arrays[name])
        self._step, self._seconds = found.step, found.journal["seconds"]
        self._interval = _Interval(**found.journal["interval"])
        logger.info("Going on from %s, after step %d of %d.", found.path, self._step, self._plan.steps)
        return found.journal["history"]

    def _require_same_start(self, step: int) -> None:
        """On several machines, that all found the same checkpoint."""

        def mean() -> tf.Tensor:
            own = tf.constant(float(step))
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, own)

        shared = self._strategy.run(tf.function(mean, autograph=False))
        if float(self._strategy.experimental_local_results(shared)[0]) != step:
            raise SettingsError(
                f"The machines found different checkpoints (this one that of step {step}): all must see the same "
                "folder, on a shared file system or gs://."
            )

    def _save(self) -> None:
        if self._checkpoints is None or not self._is_chief:
            return
        journal = {
            "seconds": self._seconds,
            "interval": dataclasses.asdict(self._interval),
            "history": self._history.rows,
        }
        self._checkpoints.save(self._step, {name: value.numpy() for name, value in self._state.items()}, journal)

    def end_if_asked(self, stop: StopRequest) -> None:
        """Ends a training that is over, and saved, if it was asked to stop before anybody took note of it."""
        if stop.signal is not None:
            self._end_early(stop)

    def _end_early(self, stop: StopRequest) -> None:
        self._history.close()
        if stop.signal == signal.SIGINT:
            raise KeyboardInterrupt
        kept = "saved" if self._checkpoints is not None else "not saved, as no folder for checkpoints was given"
        raise Stopped(
            f"Training was asked to stop after step {self._step} of {self._plan.steps}, and its state is {kept}. "
            "Start the same command again to go on."
        )


def require_even_shares(settings: TrainerSettings, replicas: int) -> None:
    """Demands batches that so many replicas can share.

    Raises:
        SettingsError: they cannot.
    """
    accumulate, probe_batch = settings.accumulate, settings.online_probe.batch_size
    devices_and_parts = f"{replicas} devices" + (f" and trainer.accumulate={accumulate}" if accumulate > 1 else "")
    for name, batch, parts, sharers in (
        ("trainer.batch_size", settings.batch_size, replicas * accumulate, devices_and_parts),
        ("trainer.online_probe.batch_size", probe_batch, replicas, f"{replicas} devices"),
    ):
        if batch % parts:
            raise SettingsError(
                f"{name} is {batch}, which {sharers} cannot share evenly: "
                f"set it to a multiple of {parts}, for instance {batch + parts - batch % parts}."
            )
