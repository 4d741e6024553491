import tracemalloc
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from sgid.data.image_set import ImageSet
from sgid.records import Use
from sgid.training.mixing import Mixed
from tests.data.writers import encoded, picture

REPEATS = 3


class Repeated(Sequence):
    """What `value` says of each of `count` places, as a column that is not in memory."""

    def __init__(self, count, value):
        self.count = count
        self.value = value

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index >= self.count:
            raise IndexError
        return self.value(index)


class Counted:
    """Bytes of images, counting how often each is read."""

    def __init__(self, data):
        self.data = data
        self.reads = Counter()

    def __call__(self, row):
        self.reads[row] += 1
        return self.data[row]


def make_set(keys, labels, first):
    data = [encoded(picture(label, first + i, 8)) for i, label in enumerate(labels)]
    names = ("bag", "coat", "shirt")
    rows = tuple(range(len(keys)))
    stamps = tuple(f"{first}:{row}" for row in rows)
    return ImageSet(tuple(keys), tuple(labels), stamps, names, rows, Counted(data))


@pytest.fixture
def real():
    return make_set([f"k#{i}" for i in range(5)], [0, 1, 2, 0, 1], 0)


@pytest.fixture
def generated(real):
    keys = [f"{key}#{repeat}" for key in real.keys for repeat in range(REPEATS)]
    return make_set(keys, [label for label in real.labels for _ in range(REPEATS)], 100)


def pixels(images, i):
    return v2.PILToTensor()(images[i].image)


def swap(probability, **more):
    return Use("replace", probability, **more)


def mixed(real, *generated, uses=None, **options):
    several = uses if uses is None or isinstance(uses, list) else [uses] * len(generated)
    return Mixed(real, generated, uses=several, transform=v2.PILToTensor(), **options)


def test_concatenate_is_one_set_of_all(real, generated):
    data = mixed(real, generated, generated.select([2, 0]))
    assert len(data) == 5 + 15 + 2
    expected = [(pixels(real, i), real.labels[i]) for i in range(5)]
    expected += [(pixels(generated, i), generated.labels[i]) for i in [*range(15), 2, 0]]
    for i, (image, label) in enumerate(expected):
        assert torch.equal(data[i][0], image) and data[i][1] == label


def test_without_generated_images_it_is_the_originals(real):
    data = mixed(real)
    assert len(data) == 5
    assert all(torch.equal(data[i][0], pixels(real, i)) for i in range(5))


def test_replace_keeps_the_length_and_takes_what_was_made_from_the_image(real, generated):
    data = mixed(real, generated, uses=swap(1.0))
    assert len(data) == 5
    torch.manual_seed(0)
    for i in range(5):
        own = [pixels(generated, REPEATS * i + repeat) for repeat in range(REPEATS)]
        found = Counter()
        for _ in range(60):
            image, label = data[i]
            found[next(j for j, one in enumerate(own) if torch.equal(one, image))] += 1
            assert label == real.labels[i]
        assert set(found) == set(range(REPEATS)) and min(found.values()) > 5


def test_replace_takes_from_all_methods(real, generated):
    other = make_set(generated.keys, generated.labels, 500)
    data = mixed(real, generated, other, uses=swap(1.0))
    torch.manual_seed(0)
    seen = {tuple(data[2][0].flatten().tolist()) for _ in range(200)}
    assert len(seen) == 2 * REPEATS


def test_replace_with_a_probability(real, generated):
    data = mixed(real, generated, uses=swap(0.3))
    torch.manual_seed(0)
    own = pixels(real, 1)
    kept = sum(torch.equal(data[1][0], own) for _ in range(2000))
    assert abs(kept / 2000 - 0.7) < 0.04  # four standard deviations
    never = mixed(real, generated, uses=swap(0))
    assert all(torch.equal(never[1][0], own) for _ in range(20))


def test_what_is_not_from_any_of_the_originals_is_never_taken(real, generated):
    few = real.select([3, 1])
    data = mixed(few, generated, uses=swap(1.0))
    torch.manual_seed(0)
    for position, owner in enumerate((3, 1)):
        own = [pixels(generated, REPEATS * owner + repeat) for repeat in range(REPEATS)]
        for _ in range(20):
            drawn, _ = data[position]
            assert any(torch.equal(drawn, one) for one in own)


def test_a_million_generated_images_take_a_few_bytes_each(real):
    count = 50_000
    lazy = replace(
        real,
        keys=Repeated(count, lambda i: f"k#{i % 5}#{i // 5}"),
        labels=Repeated(count, lambda i: real.labels[i % 5]),
        rows=Repeated(count, lambda i: i % 5),
    )
    tracemalloc.start()
    data = mixed(real, lazy, uses=swap(1.0))
    held, _ = tracemalloc.get_traced_memory()
    whole = mixed(real, lazy)
    concatenated = tracemalloc.get_traced_memory()[0] - held
    tracemalloc.stop()
    assert held < 10 * count and concatenated < 10_000
    assert (
        data[3][1] == real.labels[3] and np.diff(data.swaps[0].starts).tolist() == [count / 5] * 5
    )
    assert len(whole) == count + 5 and torch.equal(whole[count + 4][0], pixels(real, 4))


def test_an_original_without_generated_images_stays(real, generated):
    data = mixed(real, generated.select(range(REPEATS)), uses=swap(1.0))
    assert torch.equal(data[4][0], pixels(real, 4))
    assert not torch.equal(data[0][0], pixels(real, 0))


def test_decoded_images_are_kept_for_all_sets_within_one_limit(real, generated, tmp_path):
    before = mixed(real, generated)
    data = mixed(real, generated, folder=tmp_path)
    alone = mixed(real, folder=tmp_path)
    alone.keep(1e6)
    size = 3 * 8 * 8 + 16  # pixels, and a line of the table
    kept = data.keep(alone.bytes_kept + 3.5 * size)
    assert kept == data.bytes_kept <= alone.bytes_kept + 3.5 * size
    real.read.reads.clear(), generated.read.reads.clear()
    assert all(torch.equal(data[i][0], before[i][0]) for i in range(len(data)))
    assert [real.read.reads[i] for i in range(5)] == [1] * 5  # by `before`
    assert [generated.read.reads[i] for i in range(15)] == [1] * 3 + [2] * 12


def test_without_a_folder_every_look_reads(real):
    data = mixed(real)
    assert [len(data[0]) for _ in range(3)] and real.read.reads[0] == 3


def test_replace_by_any_image(real, generated):
    data = mixed(real, generated, uses=swap(1.0, whose="any"))
    torch.manual_seed(0)
    seen = {tuple(data[2][0].flatten().tolist()) for _ in range(400)}
    assert len(data) == 5 and len(seen) == 15


def test_each_method_has_a_use_of_its_own(real, generated):
    other = make_set(generated.keys, generated.labels, 500)
    data = mixed(real, generated, other, uses=[swap(1.0), Use(weight=0.25)])
    assert len(data) == 5 + 15 and torch.equal(data[5][0], pixels(other, 0))
    torch.manual_seed(0)
    assert any(torch.equal(data[0][0], pixels(generated, i)) for i in range(REPEATS))
    images, labels, weights = data.batch([0, 6])
    assert labels.tolist() == [0, 0] and (weights[1] / weights[0]).item() == 0.25
    _, _, all_weights = data.batch(range(20))  # 5 originals, or what replaces them, and 15
    assert all_weights.mean().item() == pytest.approx(1)


def test_label_weights_are_shares_of_the_classes(real, generated):
    soft = replace(generated, label_weights=[{0: 0.25, 2: 0.75}] * 15).select([4, 0])
    images, shares = mixed(real, soft).batch([1, 5])
    assert shares.tolist() == [[0, 1, 0], [0.25, 0, 0.75]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"how": "swap"}, "one of concatenate, replace"),
        ({"whose": "theirs"}, "one of own, any"),
        ({"probability": 1.2}, "within 0 and 1"),
        ({"weight": 0}, "above 0"),
        ({"together": -1}, "above 0"),
        ({"together": 1, "weight": 2}, "in the place of weight"),
        ({"together": 1, "how": "replace"}, "with how=concatenate"),
    ],
)
def test_wrong_uses(options, message):
    with pytest.raises(ValueError, match=message):
        Use(**options)


def scored(real, count, **numbers):
    keys = [f"{key}#{repeat}" for key in real.keys for repeat in range(count)]
    made = make_set(keys, [label for label in real.labels for _ in range(count)], 50)
    return replace(made, numbers={name: list(one) * len(real) for name, one in numbers.items()})


def drawn_repeats(mixed, progress=0.0, times=400):
    """How often each repeat takes the place of original 2; -1 is the original itself."""
    torch.manual_seed(0)
    mixed.progress = progress
    found = [mixed._drawn(2) for _ in range(times)]
    return Counter(-1 if source == 0 else index % 3 for source, index in found)


def test_the_chance_of_an_image_is_its_score(real):
    made = scored(real, 3, score=[0.6, 0.0, 0.2])
    use = Use("replace", 1.0, scored=True)
    found = drawn_repeats(Mixed(real, [made], uses=[use], transform=v2.PILToTensor()))
    assert set(found) == {0, 2} and abs(found[0] / 400 - 0.75) < 0.07
    none = scored(real, 3, score=[0.0, 0.0, 0.0])
    found = drawn_repeats(Mixed(real, [none], uses=[use], transform=v2.PILToTensor()))
    assert set(found) == {-1}


def test_a_curriculum_goes_from_strong_to_weak_to_real(real):
    made = scored(real, 3, strength=[0.1, 0.9, 0.5])
    use = Use("replace", 0.5, curriculum=0.75)
    mixed = Mixed(real, [made], uses=[use], transform=v2.PILToTensor())
    for progress, repeat in ((0, 1), (0.24, 1), (0.26, 2), (0.49, 2), (0.51, 0), (0.749, 0)):
        found = drawn_repeats(mixed, progress)
        assert set(found) == {-1, repeat} and 140 < found[repeat] < 260
    assert set(drawn_repeats(mixed, 0.75)) == {-1}


@pytest.mark.parametrize("together", [1.0, 0.25])
def test_all_generated_images_weigh_together_as_asked(real, together):
    made = scored(real, 3)
    mixed = Mixed(real, [made], uses=[Use(together=together)], transform=v2.PILToTensor())
    _, _, weights = mixed.batch(range(len(mixed)))
    generated = weights[len(real) :].sum() / weights[: len(real)].sum()
    assert generated.item() == pytest.approx(together) and weights.mean() == pytest.approx(1)


def test_shares_of_the_loss_hold_over_the_training_not_in_each_batch(real):
    """A batch of generated images alone has their small weight, not a whole one."""
    made = scored(real, 3)
    mixed = Mixed(real, [made], uses=[Use(together=0.25)], transform=v2.PILToTensor())
    alone = mixed.batch([7, 8])[2]
    assert alone.tolist() == pytest.approx([0.25 / 3 * 4 / 1.25] * 2)
    use = Use("replace", 0.5, weight=3.0, curriculum=0.5)
    mixed = Mixed(real, [scored(real, 1, strength=[0.5])], uses=[use], transform=v2.PILToTensor())
    torch.manual_seed(0)
    batches = [mixed.batch(range(5))[2] for _ in range(400)]
    assert torch.stack(batches).mean() == pytest.approx(1, abs=0.05)
    assert {round(w.item(), 2) for batch in batches for w in batch} == {0.5, 1.5}
    mixed.progress = 0.6  # no more images replace
    assert mixed.batch(range(5))[2].tolist() == [1.0] * 5


@pytest.mark.parametrize(
    "options",
    [
        {"weight": "much"},
        {"together": "much"},
        {"weight": 0},
        {"scored": True},
        {"how": "replace", "curriculum": 2},
        {"how": "replace", "curriculum": 0.5, "whose": "any"},
    ],
)
def test_uses_that_cannot_be(options):
    with pytest.raises(ValueError):
        Use(**options)


def test_what_a_use_does_not_use_is_in_no_spec():
    assert set(Use().spec) == {"how", "probability", "whose", "weight"}
    assert Use(weight=0.5).spec["over"] == "set" and Use(together=0.5).spec["together"] == 0.5
    assert Use("replace", curriculum=0.5).spec["curriculum"] == 0.5
