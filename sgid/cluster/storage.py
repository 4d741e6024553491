"""Transport of finished shards: a folder that all nodes reach, by any protocol that fsspec knows.

    <storage>/<kind>/<fingerprint>/part-00000.parquet
    <storage>/<kind>/<fingerprint>/part-00000.parquet.sha256   written last: the shard is whole

The second is what `sha256sum --check` reads. A shard whose hash is another is removed there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, final
from uuid import uuid4

from sgid.store.store import Store, sha256

log = logging.getLogger(__name__)

OPTION = "cluster.storage"

BUCKETS = {"s3", "s3a", "gs", "gcs", "abfs", "az"}
"""Protocols of object stores, whose first folder is a bucket."""

PATIENCE = 180.0
"""Seconds in which a storage that cannot be reached is tried again."""

PAUSE = 5.0
"""Seconds between two attempts."""


@final
class _Patient:
    """File system of fsspec whose calls are repeated while the network is away.

    Raises:
        ValueError: from its calls, if that lasts `PATIENCE` seconds, or for missing credentials.
    """

    def __init__(self, files: Any, url: str) -> None:
        self._files = files
        self._url = url

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._files, name)

        def patient(*args: Any, **kwargs: Any) -> Any:
            until, warned = time.monotonic() + PATIENCE, False
            while True:
                try:
                    return call(*args, **kwargs)
                except Exception as error:
                    text = " ".join(str(error).split()) or type(error).__name__
                    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
                        raise ValueError(f"{OPTION}={self._url}: {text}") from error
                    if not _unreachable(error):
                        raise
                    if not warned:
                        log.warning(
                            "%s cannot be reached (%s): trying for %g s", self._url, text, PATIENCE
                        )
                    warned = True
                    if time.monotonic() > until:
                        raise ValueError(
                            f"{OPTION}={self._url} cannot be reached: {text}. What is done is "
                            "kept, and the same command goes on from there"
                        ) from error
                    time.sleep(PAUSE)

        return patient


def _unreachable(error: Exception) -> bool:
    """Whether an error is of the network. Those of botocore are no `OSError`."""
    library = type(error).__module__.partition(".")[0]
    connection = isinstance(error, ConnectionError | TimeoutError)
    return connection or library in ("botocore", "aiohttp", "aiobotocore")


@final
class Storage:
    """Shards of one store in the folder `url`, a path or a URL; see the module.

    Raises:
        ValueError: for a URL that cannot be opened or reached, that other machines cannot reach,
            or whose bucket is not there.
    """

    def __init__(self, url: str, store: Store) -> None:
        from fsspec.core import url_to_fs

        if url.startswith("memory:"):
            raise ValueError(
                f"{OPTION}={url}: belongs to one process; give a folder that all nodes reach"
            )
        try:
            files, root = url_to_fs(url)
        except ValueError as error:  # an unknown protocol
            raise ValueError(f"{OPTION}={url}: {error}") from error
        except ImportError as error:
            raise ValueError(f"{OPTION}={url}: {error} (pip install it on every node)") from error
        logging.getLogger("aiobotocore").setLevel(logging.WARNING)
        self.url = url
        self.files: Any = _Patient(files, url)
        protocols = {files.protocol} if isinstance(files.protocol, str) else {*files.protocol}
        self.buckets = bool(protocols & BUCKETS)
        if self.buckets:
            bucket = root.partition("/")[0]
            self.files.exists(f"{bucket}/x")  # raises if the network is away; the next does not
            if not self.files.exists(bucket):
                raise ValueError(
                    f"{OPTION}={url}: there is no bucket {bucket}. Correct the name, or create it"
                )
        self.store = store
        self.damaged: list[int] = []  # those whose hash was another
        self.folder = f"{root.rstrip('/')}/{store.folder.parent.name}/{store.folder.name}"

    def put(self, shard: int) -> None:
        """Upload a shard of the store."""
        part = self.store.part(shard)
        line = f"{sha256(part)}  {part.name}\n".encode()
        if not self.buckets:  # they have no folders, and fsspec would create a bucket
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
