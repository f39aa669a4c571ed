"""The sizes of views: smaller at first if asked, and never too small for the encoder."""

import pytest

from trainer.config import TrainerSettings
from trainer.encoders import build_encoder
from trainer.errors import SettingsError
from trainer.model import NNCLR
from trainer.plan import Plan
from trainer.views import require_views_fit, small_view_size, whole_view_size

AVERAGE = {"encoder": {"width": 8, "pooling": "average"}, "batch_size": 16}
SIZE = (32, 32)


def settings(**changes) -> TrainerSettings:
    return TrainerSettings.model_validate(AVERAGE | changes)


def test_views_are_smaller_at_first_and_whole_at_the_end():
    resized = settings(progressive_resizing={"size": 0.97, "until": 0.5}, duration="12 steps")
    plan = Plan.of(resized, 96)
    sizes = [whole_view_size(resized, plan, SIZE, step) for step in (0, 5, 6, 11)]
    assert sizes == [(31, 31), (31, 31), (32, 32), (32, 32)]


def test_without_progressive_resizing_all_views_have_the_size_of_the_images():
    plan = Plan.of(settings(), 96)
    assert {whole_view_size(settings(), plan, SIZE, step) for step in range(plan.steps)} == {SIZE}


def test_small_views_are_a_share_of_the_image():
    assert small_view_size(settings(multi_crop={"views": 2, "size": 0.5}), (64, 96)) == (32, 48)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"progressive_resizing": {"size": 0.5}}, r"progressive_resizing\.size is 0\.5, and views of 16x16 pixels"),
        ({"multi_crop": {"views": 1, "size": 0.25}}, r"multi_crop\.size is 0\.25, and views of 8x8 pixels are too"),
    ],
)
def test_views_too_small_for_the_encoder_are_refused(changes, message):
    chosen = settings(**changes)
    with pytest.raises(SettingsError, match=message):
        NNCLR(chosen, SIZE, classes=0, dtype="float32")


def test_multi_crops_size_does_not_matter_without_small_views():
    chosen = settings(multi_crop={"views": 0, "size": 0.25})
    require_views_fit(chosen, build_encoder(chosen.encoder, SIZE), SIZE)
