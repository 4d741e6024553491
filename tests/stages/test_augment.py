"""The stage around the engine: what is drawn is stored whole, in order, and not lost."""

from functools import partial
from time import sleep
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sgid.data.decode import decode
from sgid.methods.guidance import fixed
from sgid.methods.requests import Method, RequestPlan, Undescribed
from sgid.records import Generated
from sgid.stages.augment import generate_shards
from sgid.store.store import Store
from sgid.store.tables import schema

REPEATS, SHARD = 2, 8


class Turned:
    """An engine that gives the originals turned, a shard's last request first."""

    def __init__(self, fail_at: int = -1, error: type[BaseException] = RuntimeError) -> None:
        self.fail_at, self.error = fail_at, error
        self.drawn = 0

    def generate(self, requests):
        for request in reversed(requests):
            if self.drawn == self.fail_at:
                raise self.error
            self.drawn += 1
            turned = request.init_image.rotate(90 * (1 + request.repeat))
            yield Generated(request, turned, "float32")


@pytest.fixture
def plan(fashion) -> RequestPlan:
    return RequestPlan(
        images=fashion,
        described=Undescribed(fashion),
        similarities=np.full(len(fashion), np.nan),
        recipe=Method("turned", "a {label}", True, 0.5, partial(fixed, scale=3)),
        phrases=fashion.class_names,
        expansion=REPEATS,
        seed=0,
        resolution=32,
        multiple=8,
    )


@pytest.fixture
def store(plan, tmp_path) -> Store:
    return Store(tmp_path, {"method": "turned"}, schema(), len(plan), SHARD)


def generate(store: Store, plan: RequestPlan, engine: Any) -> None:
    models: Any = SimpleNamespace(generator=engine)
    generate_shards(store, plan, models, format="png")
    store.finish()


def test_rows_are_in_the_order_of_the_requests(store, plan, fashion):
    generate(store, plan, Turned())
    assert store.complete
    for row, found in enumerate(store.read().to_pylist()):
        sample, repeat = fashion[row // REPEATS], row % REPEATS
        assert (found["key"], found["repeat"]) == (sample.key, repeat)
        expected = sample.image.rotate(90 * (1 + repeat))
        assert decode(found["image"]["bytes"]).tobytes() == expected.tobytes()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_shards_that_are_drawn_are_kept_whatever_stops_the_engine(store, plan, error):
    with pytest.raises(error):
        generate(store, plan, Turned(fail_at=2 * SHARD + 3, error=error))
    assert store.missing() == list(range(2, store.shards)) and not store.complete
    engine = Turned()
    generate(store, plan, engine)
    assert store.complete and engine.drawn == len(plan) - 2 * SHARD


def test_an_image_that_was_not_asked_for_is_not_stored(store, plan):
    class Repeating(Turned):
        def generate(self, requests):
            *most, last = super().generate(requests)
            yield from [*most, most[0]]

    with pytest.raises(AssertionError, match="other images came than were asked for"):
        generate(store, plan, Repeating())
    assert store.missing() == list(range(store.shards))


def test_a_full_disk_stops_the_engine_soon(store, plan, monkeypatch):
    class Slow(Turned):
        def generate(self, requests):
            for one in super().generate(requests):
                sleep(0.05 if self.drawn > SHARD else 0)
                yield one

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    engine = Slow()
    with pytest.raises(OSError, match="no space left"):
        generate(store, plan, engine)
    assert engine.drawn < 2 * SHARD


def test_an_image_that_cannot_be_encoded_is_told_with_its_traceback(store, plan, monkeypatch):
    monkeypatch.setattr("sgid.stages.augment.to_row", lambda *_, **__: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        generate(store, plan, Turned())
    assert store.missing() == list(range(store.shards))
