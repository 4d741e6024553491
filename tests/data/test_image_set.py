from sgid.data.image_set import join
from sgid.reproducibility import fingerprint


def test_the_digest_is_the_fingerprint_of_what_there_is(fashion):
    rows = [list(row) for row in zip(fashion.keys, fashion.labels, fashion.checksums, strict=True)]
    assert fashion.digest() == fingerprint([fashion.class_names, rows])
    none = fashion.select([])
    assert none.digest() == fingerprint([fashion.class_names, []])
    assert fashion.select(range(3)).digest() == fingerprint([fashion.class_names, rows[:3]])


def test_a_selection_has_the_images_in_the_order_asked_for(fashion):
    some = fashion.select([5, 2, 5])
    assert [sample.key for sample in some] == [fashion.keys[i] for i in (5, 2, 5)]
    assert [sample.image.tobytes() for sample in some] == [
        fashion[i].image.tobytes() for i in (5, 2, 5)
    ]
    assert all(type(label) is int for label in some.labels)


def test_joined_sets_read_from_their_own_sources(fashion):
    first, second = fashion.select([3, 0]), fashion.select([7, 1])
    both = join(first, second)
    assert [one.key for one in both] == [fashion.keys[i] for i in (3, 0, 7, 1)]
    assert [one.image.tobytes() for one in both] == [
        fashion[i].image.tobytes() for i in (3, 0, 7, 1)
    ]
