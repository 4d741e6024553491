"""Batches: what shares one, what is begun ahead, and how their size is found."""

import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from sgid.runtime import batching
from sgid.runtime.batching import AdaptiveBatcher, DoesNotFit


def doubled(batch):
    return lambda: [2 * item for item in batch]


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_every_item_has_its_result_whatever_is_begun_ahead(ahead):
    found = dict(AdaptiveBatcher(3).run(range(10), doubled, ahead=ahead))
    assert found == {i: 2 * i for i in range(10)}


def test_only_what_is_alike_shares_a_batch():
    seen = []

    def start(batch):
        seen.append(batch)
        return doubled(batch)

    dict(AdaptiveBatcher(3).run(range(10), start, alike=lambda item: item % 2))
    assert seen == [[0, 2, 4], [6, 8], [1, 3, 5], [7, 9]]


def test_as_many_as_asked_are_begun_before_the_oldest_is_waited_for():
    events = []

    def start(batch):
        events.append(("begin", *batch))

        def wait():
            events.append(("wait", *batch))
            return batch

        return wait

    list(AdaptiveBatcher(1).run(range(4), start, ahead=2))
    assert events[:5] == [("begin", 0), ("begin", 1), ("begin", 2), ("wait", 0), ("begin", 3)]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("ahead", [0, 2])
def test_memory_that_runs_out_halves_the_batches_for_good(late, ahead):
    sizes, told = [], []

    def start(batch):
        def work():
            sizes.append(len(batch))
            if len(batch) > 3:
                raise torch.OutOfMemoryError("out of memory")
            return batch

        if late:
            return work
        results = work()
        return lambda: results

    made = AdaptiveBatcher(8, settled=told.append)
    assert [item for item, _ in made.run(range(16), start, ahead=ahead)] == list(range(16))
    assert made.size == 2 and told[-1] == 2 and max(sizes[-4:]) <= 3


def test_an_item_that_does_not_fit_alone_is_an_error():
    def start(batch):
        raise torch.OutOfMemoryError("out of memory")

    said = "memory runs out with one at a time; take a smaller image"
    with pytest.raises(DoesNotFit, match=said) as told:
        list(AdaptiveBatcher(4, hint="take a smaller image").run(range(4), start))
    assert isinstance(told.value.__cause__, torch.OutOfMemoryError)


def no_memory_at_all():
    """More than any machine has: the allocator's own error."""
    torch.empty(2**50)


def no_memory_for_objects():
    raise MemoryError


def no_memory_for_a_library():
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


@pytest.mark.parametrize("fail", [no_memory_at_all, no_memory_for_objects, no_memory_for_a_library])
def test_all_ways_to_say_that_memory_ran_out_halve_the_batches(fail, caplog):
    def start(batch):
        if len(batch) > 2:
            fail()
        return doubled(batch)

    made = AdaptiveBatcher(8)
    assert dict(made.run(range(8), start)) == {i: 2 * i for i in range(8)}
    assert made.size == 2
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "out of memory with 8 at a time: 4 from now on",
        "out of memory with 4 at a time: 2 from now on",
    ]


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), KeyError("memory")])
def test_other_errors_are_raised_as_they_are(error):
    def start(batch):
        raise error

    made = AdaptiveBatcher(4)
    with pytest.raises(type(error)) as told:
        list(made.run(range(4), start))
    assert told.value is error and made.size == 4


@pytest.mark.parametrize("late", [False, True])
def test_what_failed_is_let_go_before_less_is_tried(late):
    """An error holds on to the frames it came through, and those to what filled the memory."""
    held, alive = [], []

    def start(batch):
        def work():
            alive.append(sum(one() is not None for one in held))
            tensor = torch.zeros(8)
            held.append(weakref.ref(tensor))
            if len(batch) > 1:
                raise torch.OutOfMemoryError("out of memory")
            return list(batch)

        if late:
            return pool.submit(work).result
        results = work()
        return lambda: results

    with ThreadPoolExecutor(1) as pool:
        assert len(list(AdaptiveBatcher(4).run(range(4), start))) == 4
    assert alive == [0] * len(alive) and len(alive) > 4


def test_other_work_of_the_same_size_halves_with_it():
    told = []
    made = AdaptiveBatcher(8, grow=True, settled=told.append, hint="take less")
    other = made.child()
    assert (other.size, other.growing, other.hint) == (8, False, "take less")

    def start(batch):
        if len(batch) > 4:
            no_memory_at_all()
        return doubled(batch)

    assert len(list(other.run(range(8), start))) == 8
    assert (other.size, made.size, made.growing, told) == (4, 4, False, [4])


class Clock:
    """Time that passes only as work is done, at a rate for each batch size."""

    def __init__(self, monkeypatch, rates):
        self.now, self.rates, self.sizes = 0.0, rates, []
        monkeypatch.setattr(batching, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def start(self, batch):
        def wait():
            self.sizes.append(len(batch))
            self.now += len(batch) / self.rates[len(batch)]
            return batch

        return wait


def test_the_size_grows_as_long_as_that_pays(monkeypatch):
    clock, told = Clock(monkeypatch, {4: 10, 8: 18, 16: 25, 32: 25.5}), []
    made = AdaptiveBatcher(4, grow=True, settled=told.append)
    list(made.run(range(4 + 4 + 8 + 8 + 16 + 16 + 32 + 32 + 48), clock.start, ahead=1))
    assert clock.sizes == [4, 4, 8, 8, 16, 16, 32, 32, 16, 16, 16]
    assert (made.size, told) == (16, [4, 8, 16, 16])


def test_growth_that_runs_out_of_full_batches_neither_ends_what_is_begun_ahead_nor_is_lost():
    told, events = [], []
    made = AdaptiveBatcher(4, grow=True, settled=told.append)

    def start(batch):
        events.append("begin")

        def wait():
            time.sleep(0.001)  # whatever the size: the larger, the faster
            events.append("wait")
            return batch

        return wait

    for _ in range(4):
        assert len(list(made.run(range(60), start, alike=lambda i: i % 5, ahead=1))) == 60
    assert made.size == 16 and told == [4, 8]  # 12 of a kind never make a batch of 16
    assert events[-10:].count("begin") == 5 and "begin,begin" in ",".join(events[-10:])


def test_only_one_kind_of_items_tells_how_fast_a_size_is(monkeypatch):
    clock = Clock(monkeypatch, {4: 10, 8: 18, 16: 25, 32: 25.5})

    def start(batch):  # of every second kind the items take three times as long
        wait = clock.start(batch)

        def slow():
            clock.now += 2 * len(batch) / clock.rates[len(batch)]
            return wait()

        return slow if batch[0] % 2 else wait

    made = AdaptiveBatcher(4, grow=True)
    for _ in range(8):
        list(made.run(range(64), start, alike=lambda item: item % 2))
    assert made.size == 16


def test_memory_ends_the_growth(monkeypatch):
    clock, told = Clock(monkeypatch, {4: 10, 8: 18}), []

    def start(batch):
        if len(batch) > 8:
            raise torch.OutOfMemoryError("out of memory")
        return clock.start(batch)

    made = AdaptiveBatcher(4, grow=True, settled=told.append)
    assert len(list(made.run(range(64), start))) == 64
    assert (made.size, told) == (8, [4, 8, 8])
