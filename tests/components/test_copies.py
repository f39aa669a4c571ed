"""Images that occur more than once: which are found, which are accused, and at which cost."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from components.image_example_gen import duplicates
from components.image_example_gen.config import SplitShares
from components.image_example_gen.sources import dividing
from components.linear_probe_evaluator import copies
from components.linear_probe_evaluator.artifact import Duplicates
from components.linear_probe_evaluator.embedding import Rows
from tests.components.drawings import SIZE, compressed, cropped, gradient, object_on_white, texture

RNG = np.random.default_rng(0)


def hashes(pictures) -> dict[str, np.ndarray]:
    return duplicates.hashes(np.stack([np.asarray(picture) for picture in pictures]))


def rows(pictures=(), label: int = -1) -> Rows:
    pictures = list(pictures)
    found = hashes(pictures) if pictures else {kind: np.zeros([0], np.uint64) for kind in duplicates.KINDS}
    count = len(pictures)
    ids = np.array([f"{i}.png" for i in range(count)], str)
    return Rows(np.full([count], label), np.zeros([count, 16], bool), found, np.zeros([count, 2], np.int64), ids)


@pytest.mark.parametrize(
    ("change", "least"),
    [
        pytest.param(compressed, 1.0, id="compressed"),
        pytest.param(lambda picture: compressed(picture, 20), 0.97, id="compressed strongly"),
        pytest.param(lambda picture: compressed(picture.resize((32, 32))).resize((SIZE, SIZE)), 0.97, id="resized"),
        pytest.param(lambda picture: picture.point(lambda value: value * 0.8), 1.0, id="darker"),
        pytest.param(lambda picture: compressed(cropped(picture, 0.01)), 0.97, id="cropped by 1 %"),
    ],
)
def test_changed_pictures_are_found(change, least):
    pictures = [texture(i) for i in range(100)]
    ours, theirs = hashes(pictures), hashes(map(change, pictures))
    assert len(set(ours[duplicates.EXACT].tolist())) == 100
    assert not len(duplicates.identical(ours[duplicates.EXACT], theirs[duplicates.EXACT]).rows)
    found, common = duplicates.look_alike(ours[duplicates.LOOK], theirs[duplicates.LOOK])
    assert len(found.rows) >= least * 100
    np.testing.assert_array_equal(found.rows, found.others)
    assert found.bits.max() <= duplicates.MOST_DIFFERENT_BITS
    assert not len(common)


@pytest.mark.parametrize("draw", [texture, object_on_white, gradient])
def test_different_pictures_are_not_accused(draw):
    ours, theirs = (hashes(draw(i) for i in numbers)[duplicates.LOOK] for numbers in (range(300), range(300, 900)))
    found, common = duplicates.look_alike(ours, theirs)
    assert len(found.rows) + len(common) <= 1
    # They are not one group either, whose pictures would all be in one split.
    different = np.unique(theirs[theirs != duplicates.NO_LOOK])
    assert len(np.unique(duplicates.group(different))) >= 0.98 * len(different)


def test_a_gradient_an_object_and_a_picture_of_one_colour_have_no_look():
    plain = Image.new("RGB", (SIZE, SIZE), (90, 90, 90))
    assert set(hashes([gradient(1), object_on_white(1), plain])[duplicates.LOOK].tolist()) == {duplicates.NO_LOOK}
    nothing = np.full(3, duplicates.NO_LOOK, np.uint64)
    assert not len(duplicates.look_alike(nothing, nothing)[0].rows)


def random_looks(count: int) -> np.ndarray:
    return RNG.integers(1, 2**63, count, np.uint64)


def flipped(looks: np.ndarray, bits: int) -> np.ndarray:
    """The looks with different bits, of which the numbers are drawn for each look."""
    for look in range(len(looks)):
        for bit in RNG.choice(63, bits, replace=False):
            looks[look] ^= np.uint64(1 << int(bit))
    return looks


def test_the_search_finds_what_comparing_each_with_each_finds():
    ours = np.concatenate([random_looks(200), np.zeros(5, np.uint64)])
    theirs = np.concatenate([random_looks(300), *(flipped(ours[:40].copy(), bits) for bits in range(7)), ours[-2:]])
    different = np.bitwise_count(ours[:, np.newaxis] ^ theirs).astype(int)
    different[-5:] = different[:, -2:] = 64
    found, common = duplicates.look_alike(ours, theirs)
    assert found.rows.tolist() == np.flatnonzero((different <= 4).any(1)).tolist() == list(range(40))
    assert not len(common)
    np.testing.assert_array_equal(found.bits, different.min(1)[:40])
    np.testing.assert_array_equal(different[found.rows, found.others], found.bits)


def test_groups_are_those_that_pairs_connect():
    chain = np.array([0b1, 0b11111, 0b111111111, 0b1111111111111], np.uint64)
    alone = random_looks(50)
    looks = np.concatenate([alone, chain[::-1], flipped(alone[:10].copy(), 5)])
    groups = duplicates.group(looks)
    assert groups[50:54].tolist() == [1] * 4
    np.testing.assert_array_equal(np.delete(groups, range(50, 54)), np.delete(looks, range(50, 54)))
    assert duplicates.group(looks[:0]).tolist() == []


@pytest.mark.parametrize("spread", [0, 2])
def test_many_images_that_all_look_alike_cost_little(spread, monkeypatch):
    """If each were compared with each, there would be 75 million comparisons for each of five groups of bits."""
    compared = 0
    count_bits = np.bitwise_count

    def counting(values):
        nonlocal compared
        compared += values.size
        return count_bits(values)

    monkeypatch.setattr(np, "bitwise_count", counting)
    looks = np.full(20_000, 2**62 + 2**35 + 2**20 + 5, np.uint64)
    for _ in range(spread):
        looks ^= np.uint64(1) << RNG.integers(0, 63, len(looks), np.uint64)
    found, common = duplicates.look_alike(looks[:5_000], looks[5_000:])
    assert (len(found.rows), len(common)) == (0, 5_000)
    duplicates.group(np.unique(looks))
    assert compared < 50e6


def test_a_common_look_is_no_copy_whichever_split_it_is_common_in():
    many, few = np.full(40, 2**40 + 7, np.uint64), np.full(2, 2**40 + 7, np.uint64)
    others = random_looks(100)
    for ours, theirs in ((many, few), (few, many)):
        found, common = duplicates.look_alike(np.append(ours, others), np.append(theirs, random_looks(100)))
        assert not len(found.rows)
        assert common.tolist() == list(range(len(ours)))
    found, common = duplicates.look_alike(np.append(few, others), few)
    assert found.rows.tolist() == [0, 1]


def test_what_occurs_in_two_splits_is_told_and_examples_of_it_are_shown():
    pictures = [texture(i) for i in range(100)]
    test = [*pictures[:30], gradient(1)]
    train = [*pictures[50:90], *pictures[:3], *(compressed(picture) for picture in pictures[10:14]), gradient(2)]
    # A picture that was copied a hundred times within a split is no common look.
    unlabelled = [*pictures[90:], *(100 * [compressed(pictures[20])])]
    found = copies.find({"test": rows(test, 0), "train": rows(train, 1), "unlabelled": rows(unlabelled)})
    assert found.counts == {
        "test in train": Duplicates(images=31, exact=3, look=4),
        "test in unlabelled": Duplicates(images=31, exact=0, look=1),
        "train in unlabelled": Duplicates(images=48, exact=0, look=0),
    }
    assert found.sentences == (
        "7 of the 31 images of test may also occur in train (3 identical, 4 visually alike): the accuracy may be "
        "overestimated.",
        "1 of the 31 images of test may also occur in unlabelled (0 identical, 1 visually alike): the encoder may have "
        "been pretrained on these images, although without their labels.",
    )
    assert {(copy.image.row, copy.other.split, copy.identical) for copy in found.examples} == {
        *((i, "train", True) for i in range(3)),
        *((i, "train", False) for i in range(10, 14)),
        (20, "unlabelled", False),
    }
    for copy in found.examples:
        assert copy.image == ("test", copy.image.row, f"{copy.image.row}.png", 0)
        assert copy.other.label == (1 if copy.other.split == "train" else -1)
    shown = {copy.image.row: copy.other.row for copy in found.examples}
    assert [shown[row] for row in (0, 1, 2, 10, 11, 12, 13)] == list(range(40, 47))
    assert shown[20] == 10


def test_identical_images_are_told_without_may():
    pictures = [texture(i) for i in range(12)]
    found = copies.find({"test": rows(pictures), "train": rows(pictures), "unlabelled": rows()})
    assert found.sentences == (
        "12 of the 12 images of test also occur in train (12 identical, 0 visually alike): the accuracy is "
        "overestimated.",
    )
    assert len(found.examples) == 8
    assert all(copy.image.row == copy.other.row and copy.identical for copy in found.examples)


def test_few_copies_are_counted_beside_images_with_a_common_look():
    pages = []
    for i in range(60):
        page = texture(0)
        ImageDraw.Draw(page).point((i, 5), (255, 0, 0))
        pages.append(page)
    found = copies.find(
        {"test": rows([*pages[:30], texture(1)]), "train": rows([*pages[30:], texture(1)]), "unlabelled": rows()}
    )
    assert found.counts["test in train"] == Duplicates(images=31, exact=1, look=0, common=30)


def test_pictures_that_look_alike_are_in_one_split_and_plain_ones_are_not():
    def file(picture: Image.Image, kind: str) -> bytes:
        content = io.BytesIO()
        picture.save(content, kind)
        return content.getvalue()

    objects = {f"object {i}": file(object_on_white(i), "PNG") for i in range(60)}
    photos = {f"{kind} {i}": file(texture(i), kind) for i in range(60) for kind in ("PNG", "JPEG")}
    split_of = dividing.divide((objects | photos).items(), SplitShares(train=0.5, test=0.5))
    assert all(split_of[f"PNG {i}"] == split_of[f"JPEG {i}"] for i in range(60))
    for kind in ("object", "PNG"):
        assert 15 <= sum(split_of[f"{kind} {i}"] == "train" for i in range(60)) <= 45
