"""Locks on shards, so that several processes can fill one store: each shard is made by one of them.

A process holds a lock on the shards that it is making. The system releases the locks of a process
that dies, so that others, or the next one, make what it did not finish.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from sgid.runtime.files import UNLOCKED, try_lock
from sgid.store.store import Store, stamp


@final
class Claim:
    """Exclusive right of this process to make a shard."""

    def __init__(self, store: Store, shard: int, release: Callable[[], None]) -> None:
        self.store = store
        self.shard = shard
        self._release: Callable[[], None] | None = release

    @property
    def rows(self) -> range:
        return self.store.range(self.shard)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the shard, all of its rows in order, and release it."""
        self.store.write(self.shard, rows)
        self.release(done=True)

    def release(self, *, done: bool = False) -> None:
        """Let others make the shard, unless it is done; a second call does nothing."""
        release, self._release = self._release, None
        if release is None:
            return
        if done:  # others that opened the file see that the shard is there
            _path(self.store, self.shard).unlink(missing_ok=True)
        release()


@final
class Claims:
    """Iterator over claims of the missing ones among `shards`, until all are there.

    It yields `None` while other processes make all that is left: try again a little later.
    `elsewhere` is called with each shard that another process made. All claims are released at the
    end of the `with` block.
    """

    def __init__(
        self,
        store: Store,
        shards: Sequence[int] | None = None,
        *,
        elsewhere: Callable[[int], object] = lambda _: None,
    ) -> None:
        self.store = store
        self.elsewhere = elsewhere
        asked = range(store.shards) if shards is None else shards
        # Before `missing`: what is made from here on has another stamp.
        self._before = {shard: stamp(store.part(shard)) for shard in asked}
        self.missing = store.missing(asked)
        self._held: list[Claim] = []
        # Files of processes that were killed, or of others that are at work.
        self._unfinished = list(store.folder.glob(".part-*.tmp"))

    @property
    def rows(self) -> int:
        """Number of rows in the shards that were missing at first."""
        return sum(len(self.store.range(shard)) for shard in self.missing)

    def __iter__(self) -> Iterator[Claim | None]:
        left = self.missing
        while left:
            busy = []
            for shard in left:
                if (claim := self._claim(shard)) is None:
                    busy.append(shard)
                elif stamp(self.store.part(shard)) != self._before[shard]:
                    claim.release(done=True)
                    self.elsewhere(shard)
                else:
                    yield claim
            left = busy
            if left:
                yield None

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *_: object) -> None:
        for claim in self._held:
            claim.release()

    def _claim(self, shard: int) -> Claim | None:
        """Claim a shard; `None` if another process has it."""
        release = try_lock(_path(self.store, shard))
        if release is None:
            return None
        if release is not UNLOCKED:
            name = self.store.part(shard).name
            for path in self._unfinished:
                if path.name.startswith(f".{name}."):  # nobody writes it now
                    path.unlink(missing_ok=True)
        claim = Claim(self.store, shard, release)
        self._held.append(claim)
        return claim


def _path(store: Store, shard: int) -> Path:
    return store.folder / f".{store.part(shard).stem}.lock"
