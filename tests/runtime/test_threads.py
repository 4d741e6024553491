"""Work beside other work: in order, bounded, no error lost, and no thread left behind."""

import threading
import time
import traceback
from contextlib import closing

import pytest

from sgid.runtime.threads import TRIED, BackgroundWriter, parallel_map, prefetch


def until(done) -> None:
    limit = time.monotonic() + 10
    while not done():
        assert time.monotonic() < limit
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    until(lambda: set(threading.enumerate()) <= before)


@pytest.mark.parametrize("count", [1, 3])
def test_items_made_ahead_come_in_order_and_no_more_than_asked(count):
    made = []

    def items():
        for i in range(9):
            made.append((i, threading.current_thread()))
            yield i

    for i in prefetch(items(), count):
        until(lambda i=i: len(made) >= min(9, i + 1 + count))
        time.sleep(0.002)
        assert len(made) == min(9, i + 1 + count)
    assert [i for i, _ in made] == list(range(9))
    assert threading.main_thread() not in [thread for _, thread in made]
    assert list(prefetch([])) == []


def test_an_error_in_making_comes_after_what_was_made_and_says_where():
    def items():
        yield 1
        yield 2
        raise RuntimeError("spoiled")

    got = []
    with pytest.raises(RuntimeError, match="spoiled") as caught:
        for item in prefetch(items()):
            got.append(item)
    assert got == [1, 2]
    assert "items" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


def test_closing_early_makes_no_more():
    made = []

    def items():
        for i in range(100):
            made.append(i)
            yield i

    with closing(prefetch(items())) as some:
        assert next(some) == 0
    assert made in ([0], [0, 1])


def test_closing_early_does_not_make_what_has_not_begun():
    made = []

    def items():
        for i in range(100):
            time.sleep(0.002)
            made.append(i)
            yield i

    with closing(prefetch(items(), 50)) as some:
        assert next(some) == 0
    assert len(made) < 50


def test_an_error_in_the_loop_ends_the_making():
    with pytest.raises(KeyboardInterrupt), closing(prefetch(iter(range(100)))) as some:
        for _ in some:
            raise KeyboardInterrupt


def test_what_takes_long_is_done_together_and_in_order():
    turn = threading.Barrier(2, timeout=10)  # passed only by two at once

    def work(i: int) -> int:
        if i >= TRIED:
            turn.wait()
        time.sleep(0.001 + (TRIED + 4 - i) / 1000 * (i >= TRIED))
        return i * i

    assert list(parallel_map(work, range(TRIED + 4), threads=2)) == [
        i * i for i in range(TRIED + 4)
    ]


def test_what_is_short_stays_in_the_thread_of_the_caller():
    threads = set(parallel_map(lambda _: threading.get_ident(), range(3 * TRIED), threads=2))
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("at", [0, TRIED + 3])
def test_an_error_in_one_of_several_is_raised(at):
    def work(i: int) -> int:
        time.sleep(0.001)
        return 1 // (i - at)

    with pytest.raises(ZeroDivisionError):
        list(parallel_map(work, range(TRIED + 6), threads=2))
    assert list(parallel_map(work, [], threads=2)) == []


def test_calls_are_run_behind_and_all_are_done_at_the_end():
    done = []
    with BackgroundWriter(1, waiting=2) as behind:
        futures = [behind.call(lambda i=i: done.append(i) or i) for i in range(20)]
    assert done == list(range(20)) == [future.result() for future in futures]


def test_a_call_waits_while_too_many_are_not_done():
    gate, begun = threading.Event(), []

    def slow(i: int) -> None:
        assert gate.wait(10)

    with BackgroundWriter(1, waiting=2) as behind:

        def calls() -> None:
            for i in range(4):
                behind.call(slow, i)
                begun.append(i)

        caller = threading.Thread(target=calls)
        caller.start()
        until(lambda: len(begun) == 2)
        time.sleep(0.01)
        assert begun == [0, 1]
        gate.set()
        caller.join(10)
        assert begun == [0, 1, 2, 3]


def fail() -> None:
    raise OSError("disk full")


def test_an_error_is_raised_by_the_next_call_with_its_traceback():
    with (
        pytest.raises(OSError, match="disk full") as caught,
        BackgroundWriter(1, waiting=2) as behind,
    ):
        future = behind.call(fail)
        until(future.done)
        behind.call(pytest.fail, "this is not to be run")
    assert "fail" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


def test_an_error_is_raised_by_check_or_else_at_the_end():
    with BackgroundWriter(1, waiting=2) as behind:
        until(behind.call(fail).done)
        with pytest.raises(OSError, match="disk full"):
            behind.check()
    with pytest.raises(OSError, match="disk full"), BackgroundWriter(2, waiting=4) as behind:
        behind.call(time.sleep, 0.01)
        behind.call(fail)


def test_what_was_handed_over_is_done_when_the_block_is_interrupted():
    done = []

    def slow(i: int) -> None:
        time.sleep(0.01)
        done.append(i)

    with pytest.raises(KeyboardInterrupt), BackgroundWriter(1, waiting=3) as behind:
        for i in range(3):
            behind.call(slow, i)
        raise KeyboardInterrupt
    assert done == [0, 1, 2]
