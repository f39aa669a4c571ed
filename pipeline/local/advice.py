"""What to do next after a run, which depends on the requirements that the encoder missed."""

from components.linear_probe_evaluator.artifact import Metrics

_TRAIN_LONGER = "train longer (--set trainer.epochs=N), or look at the curves: tensorboard --logdir {curves}"
# By the name of the requirement, those first that must be settled before the others matter.
_ADVICE = {
    "labels": "name a labelled set (--set evaluator.data=SOURCE), or let the encoder be released without labels "
    "(--set evaluator.without_labels=compare)",
    "needs_labels": "name a labelled set (--set evaluator.data=SOURCE), or switch the named requirement off (null)",
    "champion_problem": "restore the champion (nnclr models rollback --reason REASON --workdir {workdir}), or release "
    "without a comparison (--accept-baseline-reset)",
    "least_test_images": "measure on more images, or require fewer (--set evaluator.least_test_images=N)",
    "embeddings": "lower trainer.optimizer.learning_rate, warm up longer, or set trainer.optimizer.clip_norm",
    "collapse": "lower trainer.optimizer.learning_rate, warm up longer, strengthen trainer.augmentation, or switch on "
    "batch norm (trainer.projection.batch_norm)",
    "beat_untrained": _TRAIN_LONGER,
    "floor": _TRAIN_LONGER,
    "least_recall": _TRAIN_LONGER,
    "must_beat": _TRAIN_LONGER,
    "champion": "start from the champion's weights (--set trainer.warm_start=champion), train longer or on more "
    "images, or accept a greater loss (--set evaluator.tolerance=SHARE)",
}
_ADVICE["best_release"] = _ADVICE["champion"]
# For a requirement of another name, such as those of files that earlier versions wrote.
_OTHERWISE = "read the report, which shows the figures behind the verdict"


def next_step(evaluation: Metrics, promotion: str | None, workdir: str) -> str:
    """Returns a line that names the next step after a run.

    Args:
        evaluation: The encoder's figures, and the verdict.
        promotion: The command that promotes an encoder that waits for approval; None if it does not wait.
        workdir: The run's working directory.
    """
    if promotion:
        return f"Next: {promotion} --workdir {workdir}"
    if evaluation.blessed:
        return f"Next: nnclr models list --workdir {workdir}"
    missed = {check.name for check in evaluation.checks if not check.passed}
    known = [advice for name, advice in _ADVICE.items() if name in missed]
    advice = " Also: ".join(f"{text}." for text in dict.fromkeys(known or [_OTHERWISE]))
    curves = f"{workdir}/artifacts/Trainer/model_run"
    return f"Nothing was pushed. Next: {advice.format(workdir=workdir, curves=curves)}"
