"""Recognises a training that diverged or collapsed, and explains it to the user."""

import math

import numpy as np

from trainer.config import TrainerSettings
from trainer.errors import TrainingError

_NAMED_IDS = 5
_REMEDY = (
    "Lower trainer.optimizer.learning_rate, warm up longer, or set trainer.optimizer.clip_norm. Checkpoints from "
    "before that step are kept: trainer.from_checkpoint goes on from one with other settings."
)


def is_finite(metrics: dict[str, float]) -> bool:
    """Returns whether a step's loss and gradient are finite."""
    return math.isfinite(metrics["c_loss"]) and math.isfinite(metrics["gradient_norm"])


def divergence(step: int, metrics: dict[str, float], learning_rate: float, ids: list[str]) -> TrainingError:
    """Returns the error for a step whose metrics are not finite.

    Args:
        step: Number of the step, counted from 1.
        metrics: Metrics of the step.
        learning_rate: Learning rate of the step.
        ids: Ids of the step's images.
    """
    loss, norm = metrics["c_loss"], metrics["gradient_norm"]
    rest = f" and {len(ids) - _NAMED_IDS} more" if len(ids) > _NAMED_IDS else ""
    return TrainingError(
        f"Training diverged: the {'gradient' if math.isfinite(loss) else 'loss'} of step {step} is not finite "
        f"(loss {loss:.4g}, gradient norm {norm:.4g}, learning rate {learning_rate:.3g}). Its images: "
        f"{', '.join(ids[:_NAMED_IDS])}{rest}. {_REMEDY}"
    )


def require_finite_embeddings(step: int, embeddings: np.ndarray, learning_rate: float) -> None:
    """Refuses to continue if the embeddings of measured images are not finite although the loss of the step was.

    Args:
        step: Number of steps done.
        embeddings: Embeddings of unlabelled images, [N, d].
        learning_rate: Learning rate of the last step.

    Raises:
        TrainingError: If an embedding is not finite.
    """
    bad = int((~np.isfinite(embeddings).all(axis=1)).sum())
    if bad:
        raise TrainingError(
            f"Training diverged: after step {step}, the embeddings of {bad} of {len(embeddings)} measured images are "
            f"not finite (learning rate {learning_rate:.3g}). {_REMEDY}"
        )


def require_no_collapse(settings: TrainerSettings, history: list[dict[str, float]]) -> None:
    """Refuses to continue if the encoder collapsed, which means that all images have almost the same embedding.

    Args:
        settings: Settings of the trainer.
        history: One row of metrics for each measurement.

    Raises:
        TrainingError: If the last `watch.patience` measurements all show a collapse.
    """
    watch = settings.watch
    last = history[-watch.patience :]
    if len(last) < watch.patience:
        return
    for name, bound, setting, quantity in (
        ("projection_std", watch.collapse_std, "collapse_std", "standard deviation of the projections"),
        ("rank_me", watch.collapse_rank, "collapse_rank", "effective rank (RankMe) of the embeddings"),
    ):
        if all(row[name] < bound for row in last):
            values = ", ".join(f"{row[name]:.3g}" for row in last)
            raise TrainingError(
                f"The encoder collapsed: at step {last[-1]['step']} the {quantity} has been below {bound} for "
                f"{watch.patience} measurements ({values}), so all images look the same to it. Lower "
                "trainer.optimizer.learning_rate, warm up longer, strengthen trainer.augmentation, or switch on batch "
                f"norm. trainer.watch.{setting}=0 turns this check off."
            )
