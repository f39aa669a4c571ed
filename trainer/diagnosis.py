"""When to end a training that more of it will not mend, and what to say about it."""

import math

from trainer.config import TrainerSettings
from trainer.errors import TrainingError

_NAMED_IDS = 5


def is_finite(metrics: dict[str, float]) -> bool:
    """Whether a step's loss and gradient are numbers."""
    return math.isfinite(metrics["c_loss"]) and math.isfinite(metrics["gradient_norm"])


def divergence(step: int, metrics: dict[str, float], learning_rate: float, ids: list[str]) -> TrainingError:
    """What to say of a step whose metrics are not finite.

    Args:
        step: from 1 on.
        metrics: of the step.
        learning_rate: of the step.
        ids: of the step's images.
    """
    loss, norm = metrics["c_loss"], metrics["gradient_norm"]
    rest = f" and {len(ids) - _NAMED_IDS} more" if len(ids) > _NAMED_IDS else ""
    return TrainingError(
        f"Training diverged: the {'gradient' if math.isfinite(loss) else 'loss'} of step {step} is not finite "
        f"(loss {loss:.4g}, gradient norm {norm:.4g}, learning rate {learning_rate:.3g}). Its images: "
        f"{', '.join(ids[:_NAMED_IDS])}{rest}. Lower trainer.optimizer.learning_rate, warm up longer, or set "
        "trainer.optimizer.clip_norm. Checkpoints from before that step are kept."
    )


def require_no_collapse(settings: TrainerSettings, history: list[dict[str, float]]) -> None:
    """Ends a training whose encoder gives much the same for every image.

    Raises:
        TrainingError: the last measurements, as many as the setting `watch.patience`, all say so.
    """
    watch = settings.watch
    last = history[-watch.patience :]
    if len(last) < watch.patience:
        return
    for name, bound, setting, what in (
        ("projection_std", watch.collapse_std, "collapse_std", "standard deviation of the projections"),
        ("rank_me", watch.collapse_rank, "collapse_rank", "effective rank (RankMe) of the embeddings"),
    ):
        if all(row[name] < bound for row in last):
            values = ", ".join(f"{row[name]:.3g}" for row in last)
            raise TrainingError(
                f"The encoder collapsed: at step {last[-1]['step']} the {what} has been below {bound} for "
                f"{watch.patience} measurements ({values}), so all images look the same to it. Lower "
                "trainer.optimizer.learning_rate, warm up longer, strengthen trainer.augmentation, or switch on batch "
                f"norm. trainer.watch.{setting}=0 goes on regardless."
            )
