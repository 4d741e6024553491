"""Several processes at one store: each shard is made once, and none is lost with a process."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from sgid.store.claims import Claims
from sgid.store.store import Store, stamp
from tests.store.test_store import make, rows_of

PROCESSES = multiprocessing.get_context("spawn")


def work(parent: Path, log: Path, *, seconds: float = 0.0, stay_at: int = -1) -> None:
    """Make what is missing; a line in `log` for each shard begun. At `stay_at`, never go on."""
    store = make(parent, rows=40, shard_size=2)
    with Claims(store) as claims:
        for claim in claims:
            if claim is None:
                time.sleep(0.01)
                continue
            with log.open("a") as lines:
                lines.write(f"{claim.shard} {os.getpid()}\n")
            while claim.shard == stay_at:
                time.sleep(0.01)
            time.sleep(seconds)
            claim.write(rows_of(store, claim.shard))
    store.finish()


def begun(log: Path) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for line in log.read_text().splitlines() if log.is_file() else ():
        shard, process = line.split()
        found.setdefault(int(shard), []).append(process)
    return found


def until(condition) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


def test_processes_share_the_work_and_each_shard_is_made_once(tmp_path):
    log = tmp_path / "log"
    processes = [
        PROCESSES.Process(target=work, args=(tmp_path, log), kwargs={"seconds": 0.05})
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    made = begun(log)
    assert sorted(made) == list(range(20)) and all(len(by) == 1 for by in made.values())
    assert len({by for one in made.values() for by in one}) == 3, "all of them worked"
    store = make(tmp_path, rows=40, shard_size=2)
    assert store.complete and store.read()["key"].to_pylist() == [f"k{i}" for i in range(40)]
    left = {path.name for path in store.folder.iterdir()}
    assert left == {"spec.json", "manifest.json", *(store.part(i).name for i in range(20))}


def test_what_a_killed_process_held_is_made_by_another(tmp_path):
    log = tmp_path / "log"
    killed = PROCESSES.Process(target=work, args=(tmp_path, log), kwargs={"stay_at": 3})
    killed.start()
    until(lambda: 3 in begun(log))
    other = PROCESSES.Process(target=work, args=(tmp_path, log))
    other.start()
    until(lambda: len(begun(log)) == 20)  # all but what the first one holds
    store = make(tmp_path, rows=40, shard_size=2)
    until(lambda: store.missing() == [3])
    assert other.is_alive(), "it waits"
    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    other.join(60)
    assert other.exitcode == 0 and store.complete
    assert len(begun(log)[3]) == 2 and sum(map(len, begun(log).values())) == 21
    killed.join(60)


def test_what_others_hold_is_waited_for_and_told(tmp_path):
    store = make(tmp_path)
    elsewhere: list[int] = []
    with Claims(store) as theirs, Claims(store, elsewhere=elsewhere.append) as ours:
        held = next(iter(theirs))
        assert held is not None and held.shard == 0
        turns = iter(ours)
        mine = [next(turns), next(turns), next(turns)]
        assert [one and one.shard for one in mine] == [1, 2, None]
        for claim in mine[:2]:
            assert claim is not None
            claim.write(rows_of(store, claim.shard))
        assert next(turns) is None
        held.write(rows_of(store, 0))
        assert list(turns) == [] and elsewhere == [0]
    assert store.missing() == []


def test_what_is_given_up_is_free(tmp_path):
    store = make(tmp_path)
    with pytest.raises(RuntimeError), Claims(store) as claims:
        for _ in claims:
            raise RuntimeError
    with Claims(store, [1, 2]) as claims:
        assert claims.missing == [1, 2] and claims.rows == 4
        assert [claim and claim.shard for claim in claims] == [1, 2]


def test_a_damaged_shard_is_claimed_and_made_again(tmp_path):
    store = make(tmp_path)
    for shard in range(store.shards):
        store.write(shard, rows_of(store, shard))
    store.part(1).write_bytes(b"something else")
    with Claims(store) as claims:
        shards = [claim and claim.shard for claim in claims]
    assert shards == [1]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_and_worked_on(tmp_path, monkeypatch, caplog, number):
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    store = make(tmp_path)
    with Claims(store) as claims:
        for claim in claims:
            assert claim is not None
            claim.write(rows_of(store, claim.shard))
    store.finish()
    assert store.complete
    assert caplog.text.count("Let one process at a time work on it") == 1


@pytest.mark.parametrize("number", [errno.EROFS, errno.EIO, errno.ENOSPC])
def test_other_errors_of_a_lock_are_raised(tmp_path, monkeypatch, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError) as caught, Claims(make(tmp_path)) as claims:
        list(claims)
    assert caught.value.errno == number


def test_what_a_killed_process_was_writing_is_removed_by_who_makes_it(tmp_path):
    store = make(tmp_path)
    with Claims(store) as others:
        held = next(iter(others))
        assert held is not None and held.shard == 0
        left = [store.folder / f".part-{shard:05d}.parquet.ab12.tmp" for shard in range(3)]
        for path in left:
            path.write_bytes(b"half of a shard")
        with Claims(store) as claims:
            for claim in claims:
                if claim is None:
                    break
                claim.write(rows_of(store, claim.shard))
    assert [path.is_file() for path in left] == [True, False, False]  # one is being written


def test_a_lock_is_no_part_of_the_store(tmp_path):
    store: Store = make(tmp_path)
    with Claims(store) as claims:
        claim = next(iter(claims))
        assert claim is not None
        claim.write(rows_of(store, 0))
        assert stamp(store.part(0)) and not list(store.folder.glob("*.lock"))
