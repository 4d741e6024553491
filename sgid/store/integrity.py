"""Find corrupt shards of a complete store and mark them as missing."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from sgid.runtime.files import file_lock
from sgid.store.reviews import REVIEWS
from sgid.store.store import (
    DOUBTFUL,
    CorruptStore,
    ShardRecord,
    Stamp,
    Store,
    record_shard,
    sha256,
    stamp,
)


def invalidate_corrupt_shards(store: Store, *, everything: bool = False) -> list[str]:
    """Mark corrupt shards of a complete store as missing; the names of their files.

    Shards younger than the manifest, or of another size, are hashed; all of them with `everything`.
    Damage that leaves no such trace is found by reading: see `sgid.store.store.read_shard`.

    Raises:
        CorruptStore: if shards are corrupt in a folder that this process may not write to.
    """
    if not store.complete or _suspects(store, everything) == []:
        return []
    if not os.access(store.folder, os.W_OK):
        if bad := _bad(store, everything):
            what = ", ".join(store.part(one).name for one in bad)
            raise CorruptStore(f"{store.folder} cannot be written to, and is damaged: {what}")
        return []
    with file_lock(store.folder / ".damage.lock"):
        if not store.complete:  # another process has opened it meanwhile
            return []
        doubtful = _suspects(store, everything)
        if doubtful is None:
            store.manifest.unlink()
            return [store.manifest.name]
        if bad := [one.shard for one in doubtful if not one.sound(store)]:
            _reopen(store, bad)
        else:
            _trust(store, doubtful)
        return [store.part(shard).name for shard in bad]


@dataclass(frozen=True)
class _Suspect:
    """A shard that may differ from the manifest: its stamp now, and its hash in the manifest."""

    shard: int
    stamp: Stamp | None
    hash: str

    def sound(self, store: Store) -> bool:
        return self.stamp is not None and sha256(store.part(self.shard)) == self.hash


def _manifest_entries(store: Store) -> list[tuple[int | None, str]] | None:
    """Size and hash of each shard in the manifest; `None` if that is damaged."""
    try:
        manifest = json.loads(store.manifest.read_text(encoding="utf-8", errors="replace"))
        # Older manifests have no sizes.
        listed = [(part.get("bytes"), part["sha256"]) for part in manifest["parts"]]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return listed if len(listed) == store.shards else None


def _suspects(store: Store, everything: bool) -> list[_Suspect] | None:
    """Shards that may differ from the manifest; `None` if that itself is damaged."""
    if (listed := _manifest_entries(store)) is None:
        return None
    finished = Stamp.of(store.manifest).written
    doubtful = []
    for shard, (size, hash) in enumerate(listed):
        now = stamp(store.part(shard))
        changed = now is None or now.written >= finished or now.written == DOUBTFUL
        if everything or changed or (now and size not in (None, now.size)):
            doubtful.append(_Suspect(shard, now, hash))
    return doubtful


def _bad(store: Store, everything: bool) -> list[int]:
    doubtful = _suspects(store, everything)
    if doubtful is None:
        return list(range(store.shards))
    return [one.shard for one in doubtful if not one.sound(store)]


def _trust(store: Store, sound: Sequence[_Suspect]) -> None:
    """Date the manifest after the shards that were found intact, so that they are hashed once."""
    finished = Stamp.of(store.manifest).written
    for one in sound:
        if one.stamp and one.stamp.written == DOUBTFUL:
            os.utime(store.part(one.shard), ns=(finished, finished))
    latest = max([finished, *(one.stamp.written for one in sound if one.stamp)]) + 1
    with suppress(PermissionError):  # another user's: it is hashed each time
        os.utime(store.manifest, ns=(latest, latest))


def _reopen(store: Store, bad: Sequence[int]) -> None:
    """Remove corrupt shards' records, files derived from the store, and the manifest.

    The manifest goes last: a process that is killed before that leaves a store that is complete and
    damaged, which is found again. Locks and what others are writing stay.
    """
    notes = {
        # A record that fits no file, so that the corrupt one is not trusted.
        shard: ShardRecord(Stamp(0, 0) if shard in bad else Stamp.of(store.part(shard)), hash)
        for shard, (_, hash) in enumerate(_manifest_entries(store) or [])
    }
    record_shard(store.ledger, notes)
    good = {store.part(shard) for shard in range(store.shards) if shard not in bad}
    kept = {*good, store.ledger, store.manifest, store.folder / "spec.json"}
    kept.add(store.folder / REVIEWS)  # people's work; the images are made again as they were
    for path in store.folder.iterdir():
        if path not in kept and not path.name.startswith("."):
            path.unlink(missing_ok=True)
    store.manifest.unlink()
