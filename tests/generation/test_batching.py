"""Batches: what shares one, what is begun ahead, and how their size is found."""

import json
import time
from types import SimpleNamespace

import pytest
import torch

from sgid.generation import batching
from sgid.generation.batch_size import batches
from sgid.generation.batching import Batches


def doubled(batch):
    return lambda: [2 * item for item in batch]


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_every_item_has_its_result_whatever_is_begun_ahead(ahead):
    found = dict(Batches(3).run(range(10), doubled, ahead=ahead))
    assert found == {i: 2 * i for i in range(10)}


def test_only_what_is_alike_shares_a_batch():
    seen = []

    def start(batch):
        seen.append(batch)
        return doubled(batch)

    dict(Batches(3).run(range(10), start, alike=lambda item: item % 2))
    assert seen == [[0, 2, 4], [6, 8], [1, 3, 5], [7, 9]]


def test_as_many_as_asked_are_begun_before_the_oldest_is_waited_for():
    events = []

    def start(batch):
        events.append(("begin", *batch))

        def wait():
            events.append(("wait", *batch))
            return batch

        return wait

    list(Batches(1).run(range(4), start, ahead=2))
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

    made = Batches(8, settled=told.append)
    assert [item for item, _ in made.run(range(16), start, ahead=ahead)] == list(range(16))
    assert made.size == 2 and told[-1] == 2 and max(sizes[-4:]) <= 3


def test_an_item_that_does_not_fit_alone_is_an_error():
    def start(batch):
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        list(Batches(4).run(range(4), start))


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
    made = Batches(4, grow=True, settled=told.append)
    list(made.run(range(4 + 4 + 8 + 8 + 16 + 16 + 32 + 32 + 48), clock.start, ahead=1))
    assert clock.sizes == [4, 4, 8, 8, 16, 16, 32, 32, 16, 16, 16]
    assert (made.size, told) == (16, [4, 8, 16, 16])


def test_growth_that_runs_out_of_full_batches_neither_ends_what_is_begun_ahead_nor_is_lost():
    told, events = [], []
    made = Batches(4, grow=True, settled=told.append)

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

    made = Batches(4, grow=True)
    for _ in range(8):
        list(made.run(range(64), start, alike=lambda item: item % 2))
    assert made.size == 16


def test_memory_ends_the_growth(monkeypatch):
    clock, told = Clock(monkeypatch, {4: 10, 8: 18}), []

    def start(batch):
        if len(batch) > 8:
            raise torch.OutOfMemoryError("out of memory")
        return clock.start(batch)

    made = Batches(4, grow=True, settled=told.append)
    assert len(list(made.run(range(64), start))) == 64
    assert (made.size, told) == (8, [4, 8, 8])


def test_what_was_found_is_remembered_by_device_and_model(tmp_path, monkeypatch):
    path = tmp_path / "new" / "batch_sizes.json"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A GPU")

    def make(name="sd", size="auto"):
        device = torch.device("cuda")
        return batches(size, device=device, latent_side=64, name=name, remembered=path)

    first = make()
    assert first.growing
    clock = Clock(monkeypatch, {4: 10, 8: 10})
    list(first.run(range(40), clock.start))
    assert json.loads(path.read_text()) == {"A GPU, sd": 4}
    assert (make().size, make().growing) == (4, False)
    assert make("other").growing
    remembered = make()  # what no longer fits is mended
    remembered._halve(4)
    assert json.loads(path.read_text()) == {"A GPU, sd": 2}
    assert (make(size=7).size, make(size=7).growing) == (7, False)
    path.write_text("{half a fi")
    assert make().growing


@pytest.mark.parametrize(("side", "size"), [(8, 64), (64, 1), (128, 1), (16, 16)])
def test_on_a_cpu_the_size_follows_from_the_latents(side, size):
    device = torch.device("cpu")
    made = batches("auto", device=device, latent_side=side, name="x", remembered=None)
    assert (made.size, made.growing) == (size, False)
