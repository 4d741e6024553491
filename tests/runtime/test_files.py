"""Unfinished files: those of processes that are gone are removed, those of others stay."""

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from sgid.runtime.files import (
    ABANDONED,
    atomic_path,
    local_locks,
    require_writable,
    write_atomic,
)


def killed(path: Path) -> None:
    with atomic_path(path) as partial:
        partial.write_bytes(b"half")
        os._exit(9)


def test_what_a_killed_process_left_is_removed_by_the_next_writer(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=killed, args=(tmp_path / "file",))
    process.start()
    process.join(60)
    assert process.exitcode == 9 and len(list(tmp_path.glob(".file.*.tmp"))) == 1
    write_atomic(tmp_path / "other", b"whole")
    assert len(list(tmp_path.glob(".file.*.tmp"))) == 1
    write_atomic(tmp_path / "file", b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other"]


def test_what_is_being_written_stays(tmp_path):
    with atomic_path(tmp_path / "file") as partial:
        partial.write_bytes(b"slow")
        write_atomic(tmp_path / "file", b"fast")
        assert partial.read_bytes() == b"slow"
    assert (tmp_path / "file").read_bytes() == b"slow"


def test_those_of_other_machines_stay_for_a_day(tmp_path):
    new, old = (tmp_path / f".file.{name}-12-ab.tmp" for name in ("0badcafe", "0ddba115"))
    for path in (new, old):
        path.write_bytes(b"")
    ago = time.time() - ABANDONED - 60
    os.utime(old, (ago, ago))
    write_atomic(tmp_path / "file", b"whole")
    assert new.exists() and not old.exists()


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError, match=r"paths\.results=.*taken cannot be written to: Not a dir"):
        require_writable(tmp_path / "taken", "paths.results")
    require_writable(tmp_path / "new" / "folder", "paths.results")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


@pytest.mark.parametrize(
    ("mount", "kind"),
    [
        ("/mnt rw - fuse.sshfs me@there: rw", "fuse.sshfs"),
        ("/mnt rw - nfs there:/x rw,vers=3,nolock", "nfs"),
        ("/mnt rw - nfs4 there:/x rw,local_lock=all", "nfs4"),
        ("/mnt rw - lustre there:/x rw,localflock", "lustre"),
        ("/mnt rw - nfs4 there:/x rw,local_lock=none", None),
        ("/mnt rw - fuse.glusterfs there:/x rw", None),
        (r"/mnt/a\\040b rw - fuse.sshfs there: rw", None),
        ("/mn rw - fuse.sshfs there: rw", None),
    ],
)
def test_mounts_whose_locks_other_machines_do_not_see(mount, kind):
    mounts = f"21 1 8:1 / / rw - ext4 /dev/vda rw\n36 21 0:31 / {mount}\n"
    assert local_locks(mounts, Path("/mnt/folder")) == kind
    assert local_locks(mounts, Path("/home")) is None
    spaced = r"36 21 0:31 / /mnt/a\040b rw - fuse.sshfs there: rw"
    assert local_locks(spaced, Path("/mnt/a b/c")) == "fuse.sshfs"
