"""The summary of a run, and of runs that an earlier version of nnclr made."""

import io
import json

import pytest
from rich.console import Console

from components.linear_probe_evaluator.artifact import Check, Metrics
from components.registry_pusher.artifact import Push
from pipeline.local import advice, summary
from tests.components import releases

# What nnclr 0.1.0 wrote, shortened to what its names decide on.
FORMER = {
    "run_id": "20261101-030000-ab12",
    "outcome": "released",
    "data": {
        "source": "/images",
        "fingerprint": "f00d",
        "counts": {"unlabelled": 9, "train": 4, "test": 4},
        "rejected": 1,
    },
    "trainer": {"steps": 3, "seconds": 1.5, "images_per_second": 100.0, "final_loss": 2.5},
    "evaluation": {
        **{"probe_accuracy": 0.6, "probe_interval": [0.5, 0.7], "knn_accuracy": 0.5, "knn": {"20": 0.5}, "folds": None},
        **{
            "label_shares": {"0.01": {"mean": 0.3, "deviation": 0.1, "runs": 5, "images": 2}},
            "fine_tuned_accuracy": None,
        },
        **{"random_encoder_accuracy": 0.3, "over_random": {"mean": 0.3, "low": 0.2, "high": 0.4}},
        **{"baseline": "encoder version 2", "baseline_accuracy": 0.55},
        "over_baseline": {"mean": 0.05, "low": -0.01, "high": 0.1},
        **{"rank_me": 5.5, "duplicates": {"test in train": {"images": 4, "exact": 1, "look": 2}}, "findings": []},
        **{"blessed": True, "reasons": [], "checks": [{"passed": True, "sentence": "It keeps up."}]},
    },
    "registry": {"name": "encoder", "version": 3, "uri": "models:/encoder/3", "alias": "champion", "changed": True},
    "components": [{"id": "Trainer", "state": "cached", "seconds": 0.1}],
}


def test_a_summary_of_an_earlier_version_is_read_under_its_new_names(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps(FORMER))
    found = summary.read(tmp_path)
    assert found.evaluation.untrained_accuracy == 0.3
    assert found.evaluation.over_untrained.low == 0.2
    assert (found.evaluation.champion, found.evaluation.champion_accuracy) == ("encoder version 2", 0.55)
    assert found.evaluation.over_champion.mean == 0.05
    assert found.evaluation.label_shares[0.01].images == 2
    assert [component.state for component in found.components] == ["cached"]


def test_the_json_has_one_name_for_each_figure(tmp_path):
    summary.write(tmp_path, summary.Summary.model_validate(FORMER))
    evaluation = json.loads((tmp_path / "summary.json").read_text())["evaluation"]
    assert evaluation.keys() == Metrics.model_fields.keys()
    assert not [name for name in evaluation if "baseline" in name or "random" in name]
    assert summary.read(tmp_path) == summary.Summary.model_validate(FORMER)


def test_the_table_counts_the_checks_on_the_images_and_names_those_that_warn():
    def shown(*checks: tuple[str, bool]) -> str:
        found = [{"name": name, "passed": passed, "sentences": ["The height differs."]} for name, passed in checks]
        former = FORMER | {
            "evaluation": FORMER["evaluation"] | {"data_checks": found, "findings": ["The height differs."]}
        }
        console = Console(file=io.StringIO(), width=100)
        summary.show(summary.Summary.model_validate(former), "w", console)
        return console.file.getvalue()

    assert "Data checks" not in shown()
    assert "all 2 passed" in shown(("noise", True), ("drift", True))
    warned = shown(("noise", True), ("drift", False))
    assert "1 of 2 passed; warnings of drift" in warned
    assert "Note: The height differs." in warned


def test_an_encoder_that_waits_for_approval_is_shown_with_the_command_that_promotes_it():
    found = summary.Summary.model_validate(FORMER)
    push = Push(
        **{"pushed": True, "changed": True, "outcome": "challenger", "uri": "models:/encoder/3", "alias": "challenger"},
        not_promoted="It waits.",
        promotion="nnclr models promote 3 --name encoder --reason REASON",
    )
    waiting = found.model_copy(update={"registry": push, "outcome": "challenger"})
    console = Console(file=io.StringIO(), width=100)
    summary.show(waiting, "w", console)
    shown = console.file.getvalue()
    assert "models:/encoder/3 as challenger (registered)" in shown
    assert "Not promoted: It waits." in shown
    assert "Next: nnclr models promote 3 --name encoder --reason REASON --workdir w\n" in shown
    assert summary.exit_code(waiting) == 0


def test_exit_code_is_that_of_the_verdict():
    found = summary.Summary.model_validate(FORMER)
    refused = found.model_copy(update={"evaluation": found.evaluation.model_copy(update={"blessed": False})})
    nothing = summary.Summary(run_id="1", outcome="nothing new", nothing_new="Nothing new.")
    assert [summary.exit_code(one) for one in (found, refused, nothing)] == [0, 4, 0]


@pytest.mark.parametrize(
    ("missed", "expected", "other"),
    [
        (["labels"], "--set evaluator.without_labels=compare", "train longer"),
        (["needs_labels"], "--set evaluator.data=SOURCE", "train longer"),
        (
            ["floor", "least_recall", "beat_untrained", "must_beat"],
            "tensorboard --logdir w/artifacts/Trainer/model_run",
            "Also",
        ),
        (["champion", "best_release"], "trainer.warm_start=champion", "Also"),
        (["champion_problem"], "nnclr models rollback --reason REASON --workdir w", "train longer"),
        (["collapse"], "strengthen trainer.augmentation", "train longer"),
        (["embeddings"], "trainer.optimizer.clip_norm", "train longer"),
        (["least_test_images"], "measure on more images", "train longer"),
        (["floor", "champion"], "Also: start from", "labelled set"),
        ([""], "read the report", "train longer"),
    ],
)
def test_the_next_step_depends_on_what_was_missed(missed, expected, other):
    checks = [Check(name=name, passed=False, sentence="It is missed.") for name in missed]
    met = Check(name="embeddings", passed=True, sentence="It is met.")
    advised = advice.next_step(Metrics(blessed=False, checks=[met, *checks]), None, "w")
    assert advised.startswith("Nothing was pushed. Next: ")
    assert expected in advised
    assert other not in advised


def test_the_table_shows_the_figures_without_labels():
    metrics = releases.label_free_metrics(0.5, champion_version=2)
    found = summary.Summary.model_validate(FORMER).model_copy(update={"evaluation": metrics})
    console = Console(file=io.StringIO(), width=140)
    summary.show(found, "w", console)
    shown = " ".join(console.file.getvalue().split())
    for row in (
        "Images measured │ 100 without labels, 8 views of each",
        "Neighbour consistency │ 50.0% (95 % interval 48.0% to 52.0%)",
        "Untrained encoder │ 10.0%; LiDAR 4.5, RankMe 5.5",
        "Champion before │ 40.0% (encoder version 2); +10.0 points on the same images",
        "Note: This favours the new encoder.",
    ):
        assert row in shown
