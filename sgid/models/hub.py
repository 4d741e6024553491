"""Repositories of the Hugging Face hub: the files that a run loads, their sizes, their download.

The download goes on where it was killed, within a file as well; `HF_ENDPOINT` names another hub. It
fills the hub's own cache, where `sgid.models.weights.locate` and all other programs look.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from tqdm.utils import CallbackIOWrapper

from sgid.models.weights import (
    MOVED,
    VARIANT,
    candidates,
    has_variants,
    hub_cache,
    required,
)
from sgid.runtime.files import file_lock

AGAIN = "What is fetched is kept, and the same command goes on from there"

TEXTS = (".json", ".txt", ".model")
"""Endings of configs and vocabularies, of which all are fetched that lie beside the weights."""

CHUNK = 2**20


class Unfetchable(FileNotFoundError):
    """Refusal of a file by the hub, or by the disk. The message says what to do.

    `advice` is the part of it that holds for each file that is refused for the same reason.
    """

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(f"{reason}. {advice}" if advice else reason)
        self.reason = reason
        self.advice = advice


@final
@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: bytes, and its git or LFS hash, by which the cache calls it."""

    name: str
    size: int
    hash: str


@final
@dataclass(frozen=True)
class Repository:
    """The files of a repository that are to be fetched, at the commit of `revision`."""

    id: str
    revision: str
    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def folder(self) -> Path:
        return hub_cache() / f"models--{self.id.replace('/', '--')}"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(one.size for one in self.files)

    @property
    def there(self) -> int:
        """Bytes of them that are in the cache, those of half a file included."""
        return sum(self._there(one) for one in self.files)

    @property
    def variant(self) -> str | None:
        """The variant that its weights are of, or a part of them."""
        return VARIANT if any(f".{VARIANT}" in one.name for one in self.files) else None

    def fetch(self, advance: Callable[[int], object]) -> None:
        """Fetch what is not there; `advance` is called with the bytes of each step.

        Raises:
            Unfetchable: where the hub or the disk refuses; what is fetched stays.
        """
        for one in self.files:
            with reported(self.id, self.revision, one.name):
                self._fetch(one, advance)

    def _there(self, file: RemoteFile) -> int:
        if (self.folder / "snapshots" / self.commit / file.name).is_file():
            return file.size
        blob, part = self._places(file)
        if blob.is_file():
            return file.size
        return min(part.stat().st_size, file.size) if part.is_file() else 0

    def _places(self, file: RemoteFile) -> tuple[Path, Path]:
        """The place of a file in the cache, and that of its beginning."""
        blobs = self.folder / "blobs"
        return blobs / file.hash, blobs / f"{file.hash}.incomplete"

    def _fetch(self, file: RemoteFile, advance: Callable[[int], object]) -> None:
        from huggingface_hub import constants, hf_hub_download

        blob, part = self._places(file)
        link = self.folder / "snapshots" / self.commit / file.name
        part.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(part.with_suffix(".sgid.lock")):
            if not blob.exists() and not link.exists():
                self._complete(file, part, advance)
                os.replace(part, blob)
        part.with_suffix(".sgid.lock").unlink(missing_ok=True)
        # What is there, it links into the snapshot.
        hf_hub_download(
            self.id, file.name, revision=self.revision, cache_dir=hub_cache(),
            endpoint=constants.ENDPOINT,
        )  # fmt: skip

    def _complete(self, file: RemoteFile, part: Path, advance: Callable[[int], object]) -> None:
        """Append to the beginning of a file what it lacks; `hf_hub_download` would start again."""
        from huggingface_hub import constants, hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(self.id, file.name, revision=self.commit, endpoint=constants.ENDPOINT)
        part.touch()
        if part.stat().st_size > file.size:
            os.truncate(part, 0)
        with part.open("r+b") as stream:
            begun = stream.seek(0, os.SEEK_END)
            counted: Any = CallbackIOWrapper(advance, stream, "write")
            http_get(
                url, counted,
                resume_size=begun, headers=build_hf_headers(), expected_size=file.size,
            )  # fmt: skip
        if _hash(part, like=file.hash) != file.hash:
            part.unlink()
            raise Unfetchable(f"{file.name} of {self.id} came damaged", AGAIN)


def _hash(file: Path, *, like: str) -> str:
    """The hash of a file, of the kind of another: SHA-256 of LFS, or the SHA-1 of git."""
    digest = hashlib.sha256() if len(like) == 64 else hashlib.sha1(usedforsecurity=False)
    if len(like) != 64:
        digest.update(f"blob {file.stat().st_size}\0".encode())
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def find_repository(
    id: str, revision: str | None, layout: str, *, half: bool, weights: bool = True
) -> Repository:
    """Ask the hub for the files of a model that are loaded, and for no others.

    `id` is where it is now, if it has moved. With `half` the float16 variant is chosen where there
    is one; without `weights`, configs and vocabularies alone.

    Raises:
        Unfetchable: if the hub does not answer, does not know it, wants a login, or has no weights
            in safetensors.
    """
    from huggingface_hub import HfApi, constants

    id, at = MOVED.get(id, id), revision or "main"
    with reported(id, at):
        api = HfApi(endpoint=constants.ENDPOINT)
        info = api.model_info(id, revision=at, files_metadata=True)
        sizes = {
            one.rfilename: RemoteFile(
                one.rfilename, one.size or 0, one.lfs.sha256 if one.lfs else str(one.blob_id)
            )
            for one in info.siblings or ()
        }
        everything = Repository(id, at, str(info.sha), tuple(sizes.values()))

        def read(name: str) -> Path:
            if name in sizes:
                everything._fetch(sizes[name], lambda _: None)
            return everything.folder / "snapshots" / everything.commit / name

        names = _chosen(list(sizes), layout, read, half=half, weights=weights, id=id)
    return Repository(id, at, str(info.sha), tuple(sizes[name] for name in names))


def _chosen(
    names: Sequence[str],
    layout: str,
    read: Callable[[str], Path],
    *,
    half: bool,
    weights: bool,
    id: str,
) -> list[str]:
    """The files of a layout among those of a repository; `read` fetches a small one."""
    folder = read("model_index.json").parent
    chosen: dict[str, None] = {}
    variants = (VARIANT, None) if half else (None, VARIANT)
    for options in required(folder, layout):
        own = options[0].rpartition("/")[0]
        beside = [name for name in names if name.rpartition("/")[0] == own]
        if options[0].endswith(".safetensors"):
            if not weights:
                continue
            found = _weights(options, names, variants if has_variants(layout) else (None,), read)
        else:
            found = [name for name in options if name in names][:1]
        if not found:
            only = sorted(one for one in beside if one.endswith((".bin", ".ckpt", ".pt", ".h5")))
            why = f" (only {', '.join(only)}, which is not read)" if only else ""
            raise Unfetchable(
                f"{id} has no {' or '.join(options)}{why}: it is no {layout} model with weights in "
                "safetensors; change the id"
            )
        chosen |= dict.fromkeys(found)
        if own or layout != "diffusers":
            texts = (name for name in beside if name.endswith(TEXTS) and ".index" not in name)
            chosen |= dict.fromkeys(texts)
    return list(chosen)


def _weights(
    options: Sequence[str],
    names: Sequence[str],
    variants: Sequence[str | None],
    read: Callable[[str], Path],
) -> list[str]:
    """One file of weights, or an index with its shards; empty if there is neither."""
    for variant in variants:
        for option in options:
            file, index = candidates(option, variant)
            if file in names:
                return [file]
            if index in names:
                shards = json.loads(read(index).read_text(encoding="utf-8"))["weight_map"].values()
                place = option.rpartition("/")[0]
                return [index, *(f"{place}/{one}".lstrip("/") for one in sorted(set(shards)))]
    return []


def set_size(id: str, revision: str | None) -> int:
    """Bytes of the repository of a data set, of which one configuration may be a part.

    Raises:
        Unfetchable: if the hub does not answer, does not know it, or wants a login.
    """
    from huggingface_hub import HfApi, constants

    with reported(id, revision or "main"):
        api = HfApi(endpoint=constants.ENDPOINT)
        info = api.dataset_info(id, revision=revision, files_metadata=True)
    return sum(one.size or 0 for one in info.siblings or ())


@contextmanager
def reported(id: str, revision: str, file: str = "") -> Iterator[None]:
    """Tell what the hub, the network or the disk refuses as an `Unfetchable`."""
    from huggingface_hub import constants, errors

    hub, what = constants.ENDPOINT, f"{file} of {id}" if file else id
    try:
        yield
    except Unfetchable:
        raise
    except errors.GatedRepoError as error:
        raise Unfetchable(
            f"{id} is gated: accept its licence at {hub}/{id}, then log in with `hf auth login` "
            "(or HF_TOKEN=...)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise Unfetchable(
            f"{id} has no revision {revision} on {hub}; revision=null takes its newest"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise Unfetchable(
            f"{hub} has no repository {id} that you may read: look at its name; a private one "
            "needs `hf auth login` (or HF_TOKEN=...)"
        ) from error
    except errors.EntryNotFoundError as error:
        raise Unfetchable(f"{hub} has no {what} at {revision}") from error
    except errors.OfflineModeIsEnabled as error:
        raise Unfetchable(
            f"{what} is to be fetched, and HF_HUB_OFFLINE=1 forbids it", "Unset it"
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        login = "; `hf auth login` (or HF_TOKEN=...) may help" if status in (401, 403) else ""
        raise Unfetchable(f"{hub} refuses {what} with status {status}{login}", AGAIN) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unfetchable(f"{hub_cache()} is full: {MORE_SPACE}", AGAIN) from error
        raise Unfetchable(f"{what} could not be fetched from {hub}: {error}", AGAIN) from error
    except Exception as error:  # the network's, of any kind
        cause = " ".join(str(error).split()) or type(error).__name__
        raise Unfetchable(
            f"{hub} cannot be reached for {what} ({cause})",
            "Without a network here, fetch on another machine with the same command and copy the "
            f"hub's cache (HF_HUB_CACHE, now {hub_cache()}); HF_ENDPOINT names a mirror. {AGAIN}",
        ) from error


MORE_SPACE = "free some, or give another place with HF_HUB_CACHE=DIR"


UNITS = ("B", "kB", "MB", "GB", "TB")


def as_size(count: float) -> str:
    """Bytes for people."""
    power = min(len(UNITS) - 1, (len(f"{count:.0f}") - 1) // 3)
    return f"{count / 1000**power:.{1 if power > 2 else 0}f} {UNITS[power]}"


def of_size(text: str) -> int:
    """Bytes of what `as_size` or a person wrote, such as `1.2 GB`."""
    number, unit = text.split()
    return int(float(number) * 1000 ** UNITS.index(unit))


@contextmanager
def online(*, unless: bool) -> Iterator[None]:
    """Let the hub's libraries ask the hub within the block, where an earlier run forbade it;
    `unless` the user does.
    """
    from datasets import config
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE
    if not unless:
        constants.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE = False
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE = before
