"""The training loop: reads, checks, builds, restores and runs a training, on one device or many machines."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from trainer import (
    checks,
    devices,
    diagnosis,
    encoders,
    export,
    inputs,
    memory,
    pace,
    precision,
    progress,
    replicas,
    resuming,
    state,
)
from trainer.checkpoints import Checkpoints
from trainer.config import TrainerSettings
from trainer.errors import SettingsError
from trainer.global_step import GlobalStep
from trainer.history import History
from trainer.inputs import TrainingImages
from trainer.model import NNCLR
from trainer.outcome import TrainingResult
from trainer.pace import Pace, TimePlan
from trainer.plan import Plan
from trainer.progress import Estimate, Reporter
from trainer.resuming import Interval, Position
from trainer.step import TrainingStep
from trainer.stopping import StopRequest
from trainer.time_limit import in_seconds, spoken
from trainer.views import smaller_view_size, whole_view_size
from trainer.watch import Watch

_ASKED = "asked_to_stop"


@dataclass(frozen=True)
class Job:
    """The images of a training and its folders, local or `gs://`.

    Attributes:
        unlabelled_files: TFRecords to pretrain on.
        labelled_files: TFRecords of labelled images for the online probe; they may hold no images.
        run_dir: Folder for TensorBoard logs and `history.csv`; None writes neither.
        checkpoint_root: Folder below which each training keeps its checkpoints in a folder named after its settings and
            images; None keeps none. Several machines must share it.
        warm_start: Folder of an exported encoder to start from; None starts from random weights.
    """

    unlabelled_files: list[str]
    labelled_files: list[str]
    run_dir: str | None = None
    checkpoint_root: str | None = None
    warm_start: str | None = None


def train(
    settings: TrainerSettings, job: Job, strategy: tf.distribute.Strategy | None = None
) -> tuple[NNCLR, TrainingResult]:
    """Pretrains an encoder, continuing from the last checkpoint of the same settings and images if there is one.

    Args:
        settings: Settings of the trainer.
        job: Images and folders.
        strategy: How to distribute the training; by default over every GPU of this machine, or over the machines of
            `TF_CONFIG`.

    Raises:
        DataError: If there are too few images.
        SettingsError: If `trainer.devices` demands a GPU and there is none, if the devices cannot share a batch evenly,
            if checkpoints cannot be written, if the warm start has another architecture, if `trainer.time_limit` is
            too short, or if the memory does not suffice.
        Stopped: If SIGTERM came; the state is saved.
        KeyboardInterrupt: If SIGINT came; the state is saved.
        TrainingError: If loss or gradients are not finite, or the encoder collapsed.
    """
    start = time.monotonic()
    strategy = strategy or devices.default_strategy(settings.devices, settings.xla)
    images = inputs.read(settings, job.unlabelled_files, job.labelled_files)
    checks.check(settings, images.count, strategy.num_replicas_in_sync)
    saved = _checkpoints(settings, job, images)
    if saved is not None and devices.is_chief(strategy):
        saved.require_writable()
    plan = Plan.of(settings, images.count)
    model, step = build(settings, plan, images.size, images.classes, strategy)
    length = plan.steps if settings.time_limit is None else None
    position = resuming.restore(saved, settings, length, state.variables(model, step.optimizer), strategy)
    if position is None:
        position = Position()
        if job.warm_start is not None:
            with strategy.scope():
                export.load_weights(model.encoder, settings, images.size, job.warm_start)
                if model.momentum is not None:
                    model.momentum.start()
    training = _Training(settings, plan, images, strategy, model, step, saved, position, job.run_dir)
    with StopRequest() as stop, memory.explained(settings):
        if settings.time_limit is not None:
            training.fit_into(in_seconds(settings.time_limit), start, stop)
        result = training.run(stop)
        # A request that came after the last step was read.
        if stop.signal is not None:
            training.end_early(stop)
    return model, result


def build(
    settings: TrainerSettings, plan: Plan, size: tuple[int, int], classes: int, strategy: tf.distribute.Strategy
) -> tuple[NNCLR, TrainingStep]:
    """Builds the model and its step for the devices of a strategy; the seed in the settings determines the weights.

    Args:
        settings: Settings of the trainer.
        plan: Length of the training.
        size: Height and width of the images.
        classes: Number of classes of the online probe; 0 if there are no labels.
        strategy: The strategy that trains.

    Raises:
        SettingsError: If the encoder cannot take views of the configured sizes, or if the memory does not suffice.
    """
    keras.utils.set_random_seed(settings.seed)
    with strategy.scope(), memory.explained(settings):
        model = NNCLR(settings, size, classes, precision.compute_dtype(settings.precision))
        return model, TrainingStep(model, settings, plan, size)


def _checkpoints(settings: TrainerSettings, job: Job, images: TrainingImages) -> Checkpoints | None:
    if job.checkpoint_root is None:
        return None
    start = export.fingerprint(job.warm_start) if job.warm_start else ""
    start += encoders.start_fingerprint(settings.encoder)
    key = resuming.key(settings, images.fingerprints, start)
    return Checkpoints(job.checkpoint_root, key, settings.checkpoint.keep)


class _Training:
    """A training that is built and restored, from its position to the end of its plan."""

    def __init__(
        self,
        settings: TrainerSettings,
        plan: Plan,
        images: TrainingImages,
        strategy: tf.distribute.Strategy,
        model: NNCLR,
        step: TrainingStep,
        saved: Checkpoints | None,
        position: Position,
        run_dir: str | None,
    ):
        self._settings, self._plan, self._images, self._strategy = settings, plan, images, strategy
        self._model, self._step, self._saved, self._position = model, step, saved, position
        self._is_chief = devices.is_chief(strategy)
        self._history = History(run_dir if self._is_chief else None, position.history)
        self._watch = Watch(settings, images.unlabelled_files, images.labelled, images.size)
        self._global_step = GlobalStep(strategy, self._replica_step)
        self._unread: list[tuple[int, tf.Tensor]] = []

    def fit_into(self, limit: float, start: float, stop: StopRequest) -> None:
        """Gives the training as many steps as fit into a time limit, or as many as its checkpoint says.

        The steps that measure the speed leave no trace: the training is the same as one whose settings give its length.

        Args:
            limit: The time limit in seconds.
            start: When the training started, on the monotonic clock.
            stop: Requests to stop.

        Raises:
            SettingsError: If no step fits, or none after the warm-up.
        """
        settings, position = self._settings, self._position
        is_planned = position.planned is not None
        if position.planned is None:
            speed = self._measure_pace(limit, stop)
            # The checkpoint with the plan is still to come.
            left = (1 - pace.RESERVED_SHARE) * limit - (time.monotonic() - start) - speed.checkpoint
            steps = speed.steps_within(left, settings, self._images.count, position.step)
            steps = int(devices.least(self._strategy, steps))
            if steps <= position.step:
                raise SettingsError(
                    f"trainer.time_limit is {settings.time_limit}, and no step fits into it: reading the images and "
                    f"measuring the speed took {spoken(time.monotonic() - start)}, and a step takes "
                    f"{speed.step:.3g} s. Set a longer limit."
                )
            position.planned = TimePlan(steps, speed)
        self._plan = Plan.of(settings, self._images.count, position.planned.steps)
        checks.require_training_after_warmup(settings, self._plan)
        self._step.learning_rate.set_length(self._plan.steps)
        if not is_planned:
            # At once, so that a training that is killed early keeps its plan.
            self._save()
            progress.logger.info(
                "%s steps fit into trainer.time_limit=%s.", f"{self._plan.steps:,}", settings.time_limit
            )

    def _measure_pace(self, limit: float, stop: StopRequest) -> Pace:
        """Measures the speed, and restores the state."""
        settings, step = self._settings, self._position.step
        before = {name: variable.numpy() for name, variable in self._variables().items()}
        batches = self._endless_batches(step)

        def wait(metrics: tf.Tensor) -> None:
            if self._global_step.named(metrics)[_ASKED] > 0:
                self._history.close()
                stop.end(
                    "Training was asked to stop while its speed was measured. Run the same command again to start."
                )

        def per_step(view_size: tuple[int, int]) -> float:
            return pace.seconds_per_step(
                lambda: self._launch(next(batches), step, view_size, stop),
                wait,
                lambda value: devices.least(self._strategy, value),
                limit,
            )

        whole = per_step(self._images.size)
        smaller_size = smaller_view_size(settings, self._images.size)
        smaller = whole if smaller_size == self._images.size else per_step(smaller_size)
        for name, variable in self._variables().items():
            variable.assign(before[name])
        # The first measurement also compiles a graph and reads the images.
        _, measurement = (_seconds(lambda: self._watch.measure(self._model, step, 0.0)) for _ in range(2))
        # The first epoch was opened by the steps.
        opening = _seconds(lambda: next(self._endless_batches(step)))
        return Pace(whole, smaller, opening, measurement, _seconds(self._save))

    def _endless_batches(self, step: int) -> Iterator[Any]:
        """Yields the batches that follow `step` steps."""
        epoch, offset = self._plan.epoch_and_batch(step)
        while True:
            yield from self._images.batches(self._settings, self._strategy, epoch, offset)
            epoch, offset = epoch + 1, 0

    def run(self, stop: StopRequest) -> TrainingResult:
        """Trains to the end of the plan."""
        plan, position, batch_size = self._plan, self._position, self._settings.batch_size
        reporter = Reporter("Training", plan.steps * batch_size, position.step * batch_size)
        estimate = Estimate(plan.steps - position.step, batch_size, slower_later=position.step < plan.smaller_views)
        while position.step < plan.steps:
            epoch, offset = plan.epoch_and_batch(position.step)
            self._clock = time.monotonic()
            for batch in self._images.batches(self._settings, self._strategy, epoch, offset):
                view_size = whole_view_size(self._settings, plan, self._images.size, position.step)
                metrics = self._launch(batch, position.step, view_size, stop)
                position.step += 1
                self._unread.append((position.step, metrics))
                reporter.advance(batch_size, self._note(epoch))
                estimate.count_step()
                watch_now, save_now = self._is_due(plan.watch_every), self._is_due(plan.checkpoint_every)
                # A step's metrics are read while the next step is under way, so that a GPU does not wait for the host.
                asked = self._read(leave=0 if watch_now or save_now else 1)
                if not (watch_now or save_now or asked):
                    continue
                self._read(leave=0)
                self._stop_clock()
                if watch_now:
                    self._measure()
                if save_now or asked:
                    self._save()
                if asked:
                    self.end_early(stop)
                self._clock = time.monotonic()
                if position.step == plan.steps:
                    break
            self._read(leave=0)
            self._stop_clock()
        self._history.close()
        return TrainingResult(
            image_size=self._images.size,
            steps=position.step,
            seconds=position.seconds,
            images_per_second=position.step * batch_size / max(position.seconds, 1e-9),
            history=self._history.rows,
            checkpoints=self._saved,
            is_chief=self._is_chief,
        )

    def _launch(self, batch: Any, step: int, view_size: tuple[int, int], stop: StopRequest) -> tf.Tensor:
        """Launches the update after `step` steps; see `GlobalStep` for the result."""
        asked_here = tf.constant(float(stop.signal is not None))
        return self._global_step(batch, tf.constant(step, tf.int64), asked_here, view_size)

    def _is_due(self, every: int) -> bool:
        return self._position.step % every == 0 or self._position.step == self._plan.steps

    def _stop_clock(self) -> None:
        """Counts the time since the clock was started as training time."""
        now = time.monotonic()
        self._position.seconds += now - self._clock
        self._position.interval.seconds += now - self._clock
        self._clock = now

    def _replica_step(
        self, batch: dict, number: tf.Tensor, asked_here: tf.Tensor, view_size: tuple[int, int]
    ) -> dict[str, tf.Tensor]:
        """Makes one replica's step; its metrics tell whether any machine was asked to stop."""
        shares = self._step(batch["unlabelled"], batch.get("labelled"), number, view_size)
        return shares | {_ASKED: asked_here / replicas.count()}

    def _read(self, leave: int) -> bool:
        """Reads the metrics of all but the last `leave` steps and returns whether any machine was asked to stop."""
        asked = False
        while len(self._unread) > leave:
            step, vector = self._unread.pop(0)
            metrics = self._global_step.named(vector)
            asked = metrics.pop(_ASKED) > 0 or asked
            if not diagnosis.is_finite(metrics):
                ids = self._images.ids(self._settings, *self._plan.epoch_and_batch(step - 1))
                raise diagnosis.divergence(step, metrics, self._learning_rate(step), ids)
            self._position.interval.add(metrics)
        return asked

    def _learning_rate(self, step: int) -> float:
        return float(self._step.learning_rate(step - 1))

    def _measure(self) -> None:
        """Adds a row to the history: means since the last row, and measurements on the fixed images."""
        position, interval, batch_size = self._position, self._position.interval, self._settings.batch_size
        row: dict[str, float] = {"epoch": -(-position.step // self._plan.steps_per_epoch), "step": position.step}
        row |= interval.means()
        row["learning_rate"] = self._learning_rate(position.step)
        row |= self._watch.measure(self._model, position.step, row["learning_rate"])
        row["images_per_second"] = interval.steps * batch_size / max(interval.seconds, 1e-9)
        self._warn_if_slower()
        position.interval = Interval()
        self._history.append(row)
        diagnosis.require_no_collapse(self._settings, self._history.rows)

    def _warn_if_slower(self) -> None:
        """Warns if the training will probably take longer than `trainer.time_limit`."""
        position, planned, limit = self._position, self._position.planned, self._settings.time_limit
        if planned is None or limit is None:
            return
        interval = position.interval
        expected = planned.pace.of_steps(self._plan, position.step - interval.steps, position.step)
        slower = interval.seconds / expected - 1
        later = slower * planned.pace.of_steps(self._plan, position.step, self._plan.steps)
        if later > pace.RESERVED_SHARE * in_seconds(limit):
            progress.logger.warning(
                "The last %d steps took %.0f %% longer than when trainer.time_limit=%s was planned. The length stays "
                "%s steps, so that the learning rate falls as planned: at this speed the training ends about %s later.",
                interval.steps,
                100 * slower,
                limit,
                f"{self._plan.steps:,}",
                spoken(later),
            )

    def _note(self, epoch: int) -> str:
        """Returns a few words for the progress line."""
        parts = [f"epoch {epoch}/{self._plan.epochs}"]
        if self._history.rows:
            last = self._history.rows[-1]
            parts.append(f"loss {last['c_loss']:.3f}")
            shown = (("probe", "val_p_acc"), ("kNN", "knn_acc"))
            parts += [f"{label} {last[name]:.1%}" for label, name in shown if name in last]
        return ", ".join(parts)

    def _save(self) -> None:
        if self._saved is not None and self._is_chief:
            self._position.history = self._history.rows
            resuming.save(self._saved, self._settings, self._variables(), self._position)

    def _variables(self) -> dict[str, tf.Variable]:
        return state.variables(self._model, self._step.optimizer)

    def end_early(self, stop: StopRequest) -> None:
        """Ends the training because of a request to stop.

        Raises:
            KeyboardInterrupt: If the request is SIGINT.
            Stopped: If the request is SIGTERM.
        """
        self._history.close()
        kept = "saved" if self._saved is not None else "not saved, as no folder for checkpoints was given"
        stop.end(
            f"Training was asked to stop after step {self._position.step} of {self._plan.steps}, and its state is "
            f"{kept}. Run the same command again to resume."
        )


def _seconds(work: Callable[[], object]) -> float:
    """Does the work, and returns how long it took."""
    start = time.monotonic()
    work()
    return time.monotonic() - start
