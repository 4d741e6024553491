"""The worst come first, originals stay together, and verdicts are those on the disk."""

from __future__ import annotations

import numpy as np

from sgid.review import queue as queues
from sgid.review.queue import Queue
from sgid.store.reviews import REVIEWS, Review, append_reviews, read_all, read_reviews


def badness(queue: Queue, row: int) -> tuple[bool, float]:
    return bool(queue.scores.nearest[row] == queue.scores.labels[row]), queue.scores.cosines[row]


def test_class_by_class_the_worst_first_each_original_once(queue, monkeypatch):
    monkeypatch.setattr(queues, "PAGE", 3)
    seen = []
    pages = queues._pages(queue.scores, np.repeat(np.arange(24), 2), np.arange(48))
    assert list(pages) == sorted(set(queue.originals.labels))
    for label, numbered in pages.items():
        groups = [group for page in numbered for group in page]
        assert all(len(page) == 1 for page in numbered)  # two images each: a third has no room
        worst = [min(badness(queue, row) for row in group.rows) for group in groups]
        assert worst == sorted(worst)
        for group in groups:
            assert queue.originals.labels[group.source] == label
            assert [badness(queue, row) for row in group.rows] == sorted(
                badness(queue, row) for row in group.rows
            )
            assert {queue.names[row][0] for row in group.rows} == {
                queue.originals.keys[group.source]
            }
            seen += group.rows
    assert sorted(seen) == list(range(len(queue)))


def test_verdicts_are_read_on_from_the_disk_whoever_wrote_them(queue):
    folder = queue.store.folder
    queue.decide([3, 4], "reject", "Ada")
    assert read_reviews(folder) == {queue.names[3]: "reject", queue.names[4]: "reject"}
    other = Queue(queue.store, queue.images, queue.originals, np.repeat(range(24), 2), queue.scores)
    other.decide([3], None, "Bob")
    append_reviews(folder, [Review("of another store", 0, "reject", "Bob", "")])
    for one in (queue, other):
        assert np.flatnonzero(one.verdicts() >= 0).tolist() == [4]
    assert [one.who for one in read_all(folder)] == ["Ada", "Ada", "Bob", "Bob"]
    # What another process is still writing is left until it is whole.
    with (folder / REVIEWS).open("a") as stream:
        stream.write('{"key": "x"')
        stream.flush()
        assert np.flatnonzero(queue.verdicts() >= 0).tolist() == [4]


def test_progress_and_the_next_page_that_is_not_done(queue):
    places = list(queue._places())
    assert queue.waiting() == places[0]
    assert queue.waiting(places[-1]) == places[0]  # round again, for those that were skipped
    label, _ = places[0]
    rows = [row for page in queue.pages[label] for group in page for row in group.rows]
    queue.decide(rows[:1], "accept", "Ada")
    queue.decide(rows[1:], "reject", "Ada")
    counts = queue.progress()[label]
    assert (counts.images, counts.accepted, counts.rejected) == (len(rows), 1, len(rows) - 1)
    assert counts.left == 0 and queue.waiting()[0] != label
    queue.decide(range(len(queue)), "accept", "Ada")
    assert queue.waiting() is None


def test_a_hundred_thousand_images_stay_quick(queue, tmp_path):
    """Their order, and what each page asks for, in a time that nobody minds."""
    import time

    from sgid.evaluation.filters import ClipScores
    from sgid.store.reviews import Verdicts

    count, classes = 100_000, 200
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, classes, count // 5), 5)
    cosines = rng.uniform(0, 1, count).astype(np.float32)
    scores = ClipScores(labels, labels, cosines, cosines, cosines)
    started = time.perf_counter()
    many = object.__new__(Queue)
    sources = np.repeat(np.arange(count // 5), 5)
    many.scores, many.pages = scores, queues._pages(scores, sources, np.arange(count))
    many._shown = np.ones(count, bool)
    many.names = [(f"class/{row // 5}.jpg", row % 5) for row in range(count)]
    many._row_of = {name: row for row, name in enumerate(many.names)}
    many._lock, many._verdicts, many.store = queue._lock, Verdicts(tmp_path), queue.store
    begun = time.perf_counter() - started
    append_reviews(tmp_path, [Review(*name, "reject", "Ada", "") for name in many.names[:90_000]])
    many.progress()  # reads them all, once
    started = time.perf_counter()
    assert sum(one.rejected for one in many.progress().values()) == 90_000
    assert many.waiting() is not None
    each = time.perf_counter() - started
    assert begun < 5 and each < 1.5, (begun, each)  # some 0.4 s and 0.2 s
