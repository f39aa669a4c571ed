"""The training loop: one strategy-wide step in a graph, epochs, validation of the probe, and what is written of it."""

import csv
import time
from dataclasses import dataclass, field

import keras
import tensorflow as tf

from trainer import data, devices, examples
from trainer.config import TrainerSettings
from trainer.errors import DataError, SettingsError
from trainer.nnclr import NNCLR
from trainer.progress import Reporter

_VALIDATION_BATCH = 500


@dataclass
class TrainingResult:
    """What a finished training has to tell; `history` holds one row of metrics an epoch."""

    image_size: tuple[int, int]
    steps: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def final_loss(self) -> float:
        return self.history[-1]["c_loss"]


def train(
    settings: TrainerSettings,
    unlabelled_files: list[str],
    labelled_files: list[str],
    run_dir: str | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> tuple[NNCLR, TrainingResult]:
    """Pretrains an encoder.

    Args:
        settings: the trainer's.
        unlabelled_files: TFRecords to pretrain on.
        labelled_files: TFRecords of labelled images for the online probe, which may hold none.
        run_dir: where TensorBoard logs and `history.csv` go; nowhere if None.
        strategy: how to distribute; by default over every GPU of this machine.

    Raises:
        DataError: there are too few images for the batch.
        SettingsError: a batch cannot be shared evenly by the replicas.
    """
    strategy = strategy or devices.local_strategy()
    _require_even_shares(settings, strategy.num_replicas_in_sync)
    available = data.count(unlabelled_files)
    if available < settings.batch_size:
        raise DataError(
            f"The split `{examples.UNLABELLED}` has {available} images, fewer than one batch of {settings.batch_size}: "
            f"add images or set trainer.batch_size to at most {available}."
        )
    size = examples.image_size(unlabelled_files)
    labels = data.labels(labelled_files)
    labelled = data.LabelledSplit(labelled_files, size, settings.online_probe.holdout) if labels.size else None

    keras.utils.set_random_seed(settings.seed)
    with strategy.scope():
        model = NNCLR(
            settings, size, int(labels.max()) + 1 if labels.size else 0, devices.compute_dtype(settings.precision)
        )
    step_names: list[str] = []

    @tf.function
    def distributed_step(batch, step):
        shares = strategy.run(model.train_step, args=(batch["unlabelled"], batch.get("labelled"), step))
        metrics = {name: strategy.reduce(tf.distribute.ReduceOp.SUM, share, None) for name, share in shares.items()}
        step_names[:] = metrics
        # One vector, so that a step costs the loop one addition and no transfer.
        return tf.stack([tf.cast(value, tf.float32) for value in metrics.values()])

    result = TrainingResult(image_size=size)
    steps_per_epoch = available // settings.batch_size
    reporter = Reporter("Training", settings.epochs * steps_per_epoch * settings.batch_size)
    writer = tf.summary.create_file_writer(run_dir) if run_dir else tf.summary.create_noop_writer()
    note = f"epoch 1/{settings.epochs}"
    for epoch in range(1, settings.epochs + 1):
        start = time.monotonic()
        sums = tf.zeros([])
        batches = _batches(settings, unlabelled_files, labelled, size, epoch)
        for batch in strategy.experimental_distribute_dataset(batches):
            sums += distributed_step(batch, tf.constant(result.steps, tf.int64))
            result.steps += 1
            reporter.advance(settings.batch_size, note)
        row = dict(zip(step_names, (sums / steps_per_epoch).numpy().tolist(), strict=True))
        seconds = time.monotonic() - start
        result.seconds += seconds
        if labelled is not None:
            row |= _validate(model, labelled)
        row["images_per_second"] = steps_per_epoch * settings.batch_size / seconds
        result.history.append({"epoch": epoch, "step": result.steps, **row})
        with writer.as_default(step=result.steps):
            for name, value in row.items():
                tf.summary.scalar(name, value)
        probe = f", probe {row['val_p_acc']:.1%}" if "val_p_acc" in row else ""
        note = f"epoch {min(epoch + 1, settings.epochs)}/{settings.epochs}, loss {row['c_loss']:.3f}{probe}"
    result.images_per_second = result.steps * settings.batch_size / result.seconds
    writer.close()
    if run_dir:
        _write_history(f"{run_dir}/history.csv", result.history)
    return model, result


def _require_even_shares(settings: TrainerSettings, replicas: int) -> None:
    for name, batch in (
        ("trainer.batch_size", settings.batch_size),
        ("trainer.online_probe.batch_size", settings.online_probe.batch_size),
    ):
        if batch % replicas:
            raise SettingsError(
                f"{name} is {batch}, which {replicas} devices cannot share evenly: "
                f"set it to a multiple of {replicas}, for instance {batch + replicas - batch % replicas}."
            )


def _batches(settings, unlabelled_files, labelled, size, epoch: int) -> tf.data.Dataset:
    order = {"buffer": settings.shuffle_buffer, "seed": settings.seed, "epoch": epoch}
    parts = {"unlabelled": data.unlabelled_batches(unlabelled_files, size, settings.batch_size, **order)}
    if labelled is not None:
        parts["labelled"] = labelled.training_batches(settings.online_probe.batch_size, **order)
    return tf.data.Dataset.zip(parts).prefetch(tf.data.AUTOTUNE)


def _validate(model: NNCLR, labelled: data.LabelledSplit) -> dict[str, float]:
    loss = hits = rows = 0.0
    for batch in labelled.validation_batches(_VALIDATION_BATCH):
        batch_loss, batch_hits = model.validate_probe(batch["image"], batch["label"])
        loss, hits, rows = loss + float(batch_loss), hits + float(batch_hits), rows + batch["label"].shape[0]
    return {"val_p_loss": loss / rows, "val_p_acc": hits / rows}


def _write_history(path: str, history: list[dict[str, float]]) -> None:
    with tf.io.gfile.GFile(path, "w") as file:
        rows = csv.DictWriter(file, fieldnames=list(history[0]))
        rows.writeheader()
        rows.writerows(history)
