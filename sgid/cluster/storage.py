"""Transport of finished shards: a folder that all nodes reach, by any protocol that fsspec knows.

    <storage>/<kind>/<fingerprint>/part-00000.parquet
    <storage>/<kind>/<fingerprint>/part-00000.parquet.sha256   written last: the shard is whole

The second is what `sha256sum --check` reads. A shard whose hash is another is removed there.
"""

from __future__ import annotations

from contextlib import suppress
from typing import final
from uuid import uuid4

from sgid.store.store import Store, sha256

OPTION = "cluster.storage"


@final
class Storage:
    """Shards of one store in the folder `url`, a path or a URL; see the module.

    Raises:
        ValueError: for a URL that cannot be opened, or that other machines cannot reach.
    """

    def __init__(self, url: str, store: Store) -> None:
        from fsspec.core import url_to_fs

        if url.startswith("memory:"):
            raise ValueError(
                f"{OPTION}={url}: belongs to one process; give a folder that all nodes reach"
            )
        try:
            self.files, root = url_to_fs(url)
        except (ValueError, ImportError) as error:  # an unknown protocol, or one not installed
            raise ValueError(f"{OPTION}={url}: {error}") from error
        self.store = store
        self.damaged: list[int] = []  # those whose hash was another
        self.folder = f"{root.rstrip('/')}/{store.folder.parent.name}/{store.folder.name}"

    def put(self, shard: int) -> None:
        """Upload a shard of the store."""
        part = self.store.part(shard)
        line = f"{sha256(part)}  {part.name}\n".encode()
        self.files.makedirs(self.folder, exist_ok=True)
        unfinished = f"{self.folder}/.{part.name}.{uuid4().hex}.tmp"
        self.files.put_file(str(part), unfinished)
        self.files.mv(unfinished, self._at(shard))
        self.files.pipe_file(unfinished, line)
        self.files.mv(unfinished, self._hash_at(shard))

    def fill(self) -> None:
        """Upload the shards of a complete store that are not there."""
        for shard in range(self.store.shards):
            if not self.has(shard):
                self.put(shard)

    def get(self, shard: int) -> bool:
        """Download a shard into the store; false if it is not there, or damaged."""
        if not self.has(shard):
            return False
        line = self.files.cat_file(self._hash_at(shard)).decode("ascii", "replace")
        expected = line.partition(" ")[0]
        part = self.store.part(shard)
        part.parent.mkdir(parents=True, exist_ok=True)
        fetched = part.with_name(f".{part.name}.{uuid4().hex}.tmp")
        try:
            if self.files.exists(self._at(shard)):
                self.files.get_file(self._at(shard), str(fetched))
                if sha256(fetched) == expected:
                    self.store.place(shard, fetched, expected)
                    return True
            self.damaged.append(shard)
            self._remove(shard)
            return False
        finally:
            fetched.unlink(missing_ok=True)

    def has(self, shard: int) -> bool:
        """Whether the hash of a shard is there, which is written last."""
        self.files.invalidate_cache()
        return self.files.exists(self._hash_at(shard))

    def _remove(self, shard: int) -> None:
        for path in (self._hash_at(shard), self._at(shard)):  # no hash without a file
            with suppress(FileNotFoundError):
                self.files.rm_file(path)

    def _at(self, shard: int) -> str:
        return f"{self.folder}/{self.store.part(shard).name}"

    def _hash_at(self, shard: int) -> str:
        return f"{self._at(shard)}.sha256"
