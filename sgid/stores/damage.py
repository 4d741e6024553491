"""A complete store whose files are not what was written: found, and opened to be made again."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from filelock import FileLock

from sgid.stores.ledger import Note, note
from sgid.stores.parts import Stamp, sha256, stamp
from sgid.stores.store import Store


def take_back_damaged(store: Store, *, everything: bool = False) -> list[str]:
    """The files of a complete store that are not what was written: their shards are missing.

    What is younger than the manifest, or of another size, is hashed; `everything`, if asked for.
    Damage that leaves no such trace is found where it is read: see `sgid.stores.parts.read_part`.
    """
    if not store.complete or _doubtful(store, everything) == []:
        return []
    with FileLock(store.folder / ".damage.lock"):
        if not store.complete:  # another process has opened it meanwhile
            return []
        doubtful = _doubtful(store, everything)
        if doubtful is None:
            store.manifest.unlink()
            return [store.manifest.name]
        bad = [shard for shard, hash in doubtful if not _is(store, shard, hash)]
        if bad:
            _open_again(store, bad)
        else:
            os.utime(store.manifest)  # nothing is younger than it any more
        return [store.part(shard).name for shard in bad]


def _listed(store: Store) -> list[tuple[int | None, str]] | None:
    """Size and hash of each shard in the manifest; `None` if that is damaged."""
    try:
        manifest = json.loads(store.manifest.read_text(encoding="utf-8", errors="replace"))
        # Older manifests have no sizes.
        listed = [(part.get("bytes"), part["sha256"]) for part in manifest["parts"]]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return listed if len(listed) == store.shards else None


def _doubtful(store: Store, everything: bool) -> list[tuple[int, str]] | None:
    """Shards that may not be what the manifest says, and the hash that they should have."""
    if (listed := _listed(store)) is None:
        return None
    finished = Stamp.of(store.manifest).written
    doubtful = []
    for shard, (size, hash) in enumerate(listed):
        now = stamp(store.part(shard))
        changed = now is None or now.written >= finished or size not in (None, now.size)
        if changed or everything:
            doubtful.append((shard, hash))
    return doubtful


def _is(store: Store, shard: int, hash: str) -> bool:
    return store.part(shard).is_file() and sha256(store.part(shard)) == hash


def _open_again(store: Store, bad: Sequence[int]) -> None:
    """No manifest, no damaged shards, and nothing that was made of them."""
    notes = {
        # What is bad is noted as well, lest it be trusted if this process is killed now.
        shard: Note(Stamp(0, 0) if shard in bad else Stamp.of(store.part(shard)), hash)
        for shard, (_, hash) in enumerate(_listed(store) or [])
    }
    note(store.ledger, notes)
    store.manifest.unlink()
    good = {store.part(shard) for shard in range(store.shards) if shard not in bad}
    for path in store.folder.iterdir():
        if path not in {*good, store.ledger, store.folder / "spec.json"}:
            path.unlink(missing_ok=True)
