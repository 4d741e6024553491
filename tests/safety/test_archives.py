"""Archives, and the pickles in CIFAR's: nothing is written outside, nothing is run unchecked."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from torchvision.datasets.utils import extract_archive

from sgid.data.sources.cifar import cifar10, cifar100
from sgid.data.sources.download import DatasetInfo

HOME = DatasetInfo("mine", "Mine", size="1 MB", folder="mine", layout="ROOT/mine")


def member(name: str, **what) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in what.items():
        setattr(info, key, value)
    return info


HOSTILE = {
    "up": [member("../evil", size=4)],
    "up and up": [member("mine/../../evil", size=4)],
    "absolute": [member("ABSOLUTE/evil", size=4)],
    "link": [
        member("mine/out", type=tarfile.SYMTYPE, linkname="../.."), member("mine/out/evil", size=4)
    ],
    "hard link": [member("mine/hard", type=tarfile.LNKTYPE, linkname="../../secret")],
    "device": [member("mine/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "pipe": [member("mine/pipe", type=tarfile.FIFOTYPE)],
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_a_hostile_tar_is_refused_and_leaves_nothing(kind, tmp_path):
    """As older versions of torchvision unpack, in the folder that `DatasetInfo` gives them."""
    top, archive = tmp_path / "root", tmp_path / "set.tar.gz"
    (tmp_path / "secret").write_text("secret")
    with tarfile.open(archive, "w:gz") as tar:
        for one in HOSTILE[kind]:
            one.name = one.name.replace("ABSOLUTE", str(tmp_path))
            tar.addfile(one, io.BytesIO(b"evil") if one.size else None)
    with (
        tarfile.open(archive) as made,
        pytest.raises(FileNotFoundError, match="could not be fetched"),
    ):
        HOME.find(str(top), download=True, fetch=made.extractall)
    assert {path.name for path in tmp_path.rglob("*")} == {"root", "set.tar.gz", "secret"}


def test_a_hostile_zip_stays_within(tmp_path):
    archive, top = tmp_path / "set.zip", tmp_path / "root"
    with zipfile.ZipFile(archive, "w") as made:
        for name in ("mine/a", "../evil", "mine/../../../evil", f"{tmp_path}/evil"):
            made.writestr(name, "evil")
    HOME.find(str(top), download=True, fetch=lambda to: extract_archive(str(archive), str(to)))
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("set.zip", "root")] == []
    assert {path.name for path in top.iterdir()} == {"mine"}


@pytest.mark.parametrize(
    ("source", "folder", "names"),
    [
        (cifar10, "cifar-10-batches-py", ["data_batch_1", "batches.meta", "test_batch"]),
        (cifar100, "cifar-100-python", ["train", "meta", "test"]),
    ],
)
def test_a_cifar_that_is_not_the_original_is_not_unpickled(
    source, folder, names, tmp_path, bomb, mark
):
    place: Path = tmp_path / folder
    place.mkdir()
    for name in [*names, *(f"data_batch_{i}" for i in range(2, 6))]:
        (place / name).write_bytes(bomb)
    with pytest.raises(FileNotFoundError, match="not the original's"):
        source(str(tmp_path))
    assert not mark.exists()
