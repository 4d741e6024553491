"""Fetching from servers that work, and from those that do not."""

import shutil
import sys
from subprocess import PIPE, Popen

import pytest
from hydra.errors import InstantiationException

from tests.data.formats import WRITERS, on_disk
from tests.data.formats.archives import home_server, originals
from tests.data.sources.test_conf import source

FETCHED = sorted(set(WRITERS) - {"cars", "folder", "hub"})


def refused(name, **options) -> str:
    """The message of the `FileNotFoundError` that source `name` raises."""
    with pytest.raises(InstantiationException) as caught:
        source(name, **options)
    assert isinstance(caught.value.__cause__, FileNotFoundError), caught.value
    return str(caught.value.__cause__)


@pytest.fixture
def served(request, tmp_path):
    """The set `request.param`, on its server and nowhere else; the folder of its archives."""
    name, origin, archives = request.param, tmp_path / "origin", tmp_path / "archives"
    with (
        on_disk(name, origin, train=2, validation=1, test=1) as written,
        home_server(name, origin, archives),
    ):
        yield name, written, archives


@pytest.mark.parametrize("served", FETCHED, indirect=True)
def test_what_is_fetched_is_the_set_whole_and_nothing_else(served, tmp_path):
    name, written, archives = served
    root = tmp_path / "root"
    (root / f".fetching-{name}" / "half").mkdir(parents=True)  # as a fetch leaves it that is killed
    assert "stage=fetch" in refused(name, root=str(root))
    fetched = source(name, root=str(root), download=True).present()
    assert {split: set(listing.keys) for split, listing in fetched.items()} == {
        split: set(images) for split, images in written.items()
    }
    assert len(list(root.iterdir())) == 1 and not list(root.rglob("*.t*gz"))
    shutil.rmtree(archives)  # a second time nothing is asked of the server
    again = source(name, root=str(root), download=True)
    assert again.train.stamps == fetched["train"].stamps


@pytest.mark.parametrize("served", FETCHED, indirect=True)
def test_a_server_without_the_archive(served, tmp_path):
    name, _, archives = served
    next(archives.iterdir()).unlink()
    message = refused(name, root=str(tmp_path / "root"), download=True)
    first, _, rest = message.partition("\n")
    assert "could not be fetched into" in first and "404" in first
    assert "By hand" in rest and "ROOT/" in rest and "dataset.root=ROOT" in rest
    assert not list((tmp_path / "root").iterdir())


@pytest.mark.parametrize("served", sorted({*FETCHED} - {"aircraft"}), indirect=True)
def test_an_archive_that_is_not_the_original(served, tmp_path):
    name, _, archives = served
    archive = sorted(archives.iterdir())[0]
    archive.write_bytes(archive.read_bytes()[:-1] + b"?")
    message = refused(name, root=str(tmp_path / "root"), download=True)
    assert "could not be fetched into" in message and "corrupted" in message
    assert not list((tmp_path / "root").iterdir())


@pytest.mark.parametrize("served", ["aircraft"], indirect=True)
def test_an_archive_that_breaks_off_where_its_checksum_is_not_known(served, tmp_path):
    name, _, archives = served
    archive = archives / "fgvc-aircraft-2013b.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-3000])
    assert "could not be fetched" in refused(name, root=str(tmp_path / "root"), download=True)
    assert not list((tmp_path / "root").iterdir())


@pytest.mark.parametrize("served", ["flowers"], indirect=True)
def test_what_is_there_is_left_alone_though_it_is_incomplete(served, tmp_path):
    name, _, _ = served
    mine = tmp_path / "root" / "flowers-102" / "jpg" / "mine.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    message = refused(name, root=str(tmp_path / "root"), download=True)
    assert "incompletely" in message and "move it away" in message
    assert mine.read_bytes() == b"mine"


@pytest.mark.parametrize("served", ["dtd"], indirect=True)
def test_a_fetch_that_is_interrupted_leaves_nothing(served, tmp_path, monkeypatch):
    from torchvision.datasets import DTD

    def interrupted(self):
        (self._images_folder / "banded").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(DTD, "_download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        source("dtd", root=str(tmp_path / "root"), download=True)
    assert "has no folder dtd" in refused("dtd", root=str(tmp_path / "root"))


@pytest.mark.parametrize("name", FETCHED)
def test_nothing_is_fetched_or_made_unless_it_is_said(name, tmp_path):
    root = tmp_path / "nowhere"
    message = refused(name, root=str(root))
    assert f"dataset.root={root} is not there" in message
    command = f"python run.py stage=fetch dataset={name} aug=none dataset.root={root}"
    assert command in message
    assert "ROOT/" in message and (" MB)" in message or " GB)" in message)
    assert not root.exists()
    assert "dataset.root is not given" in refused(name, root=None)


def test_the_layouts_in_messages_are_those_of_the_archives():
    for name in FETCHED:
        for content, _ in originals(name).values():
            top = content.split("/")[0]
            assert f"ROOT/{top}" in refused(name, root=None)


FETCH = """
import logging, sys, time
from pathlib import Path
from sgid.data.sources.download import DatasetInfo
logging.basicConfig(level=logging.INFO, format="%(message)s")

def fetch(place):
    (place / "mine").mkdir()
    (place / "mine" / "half").touch()
    print("begun", flush=True)
    sys.stdin.readline()
    (place / "mine" / "half").rename(place / "mine" / "whole")

home = DatasetInfo("mine", "Mine", size="1 MB", folder="mine", layout="ROOT/mine")
top = home.find(sys.argv[1], download=True, fetch=fetch)
print(*sorted(path.name for path in (top / "mine").iterdir()))
"""


@pytest.mark.parametrize("killed", [False, True])
def test_of_two_processes_one_fetches_and_the_other_waits(tmp_path, killed):
    line = [sys.executable, "-c", FETCH, str(tmp_path / "root")]
    given = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE, "text": True}
    with Popen(line, **given) as first, Popen(line, **given) as second:
        try:
            said = [one.stderr.readline() for one in (first, second)]
            waits = ["is being fetched" in line for line in said]
            assert sorted(waits) == [False, True], said
            other, one = (first, second) if waits[0] else (second, first)
            assert one.stdout.readline() == "begun\n"
            if killed:  # the other then fetches it itself
                one.kill()
                assert other.communicate("\n", timeout=600)[0] == "begun\nwhole\n"
            else:
                assert one.communicate("\n", timeout=600)[0] == "whole\n"
                assert other.communicate("", timeout=600)[0] == "whole\n"
        finally:
            first.kill()
            second.kill()
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["mine"]
