"""Errors of the machine name the folder, what is wrong with it, and the option to change."""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path

import pytest
import torch

from sgid.errors import AWAY, fault


@pytest.fixture
def places(tmp_path) -> dict[str, str | Path]:
    return {"paths.artifacts": tmp_path / "a", "paths.results": tmp_path / "r"}


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_disk_that_is_full(places, tmp_path):
    with pytest.raises(OSError) as caught, Path("/dev/full").open("w") as stream:
        stream.write("x")
    said = fault(caught.value, places)
    assert said is not None
    assert re.search(r"is full \([\d,]+ MB left\): free some, or give another place with ", said)
    assert "the same command goes on" in said
    written = OSError(errno.EDQUOT, "Disk quota exceeded", str(tmp_path / "r" / "x" / "best.ckpt"))
    said = fault(written, places)
    assert said is not None and said.startswith(f"{tmp_path / 'r'} is full: its quota is used up")
    assert f"paths.results=DIR (now {tmp_path / 'r'})" in said


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_folder_that_is_closed(places, tmp_path, number):
    error = OSError(number, os.strerror(number), str(tmp_path / "a" / "described"))
    said = fault(error, places)
    assert said is not None and said.startswith(f"{tmp_path / 'a' / 'described'} cannot be used: ")
    assert said.endswith(f"another place: paths.artifacts=DIR (now {tmp_path / 'a'})")
    elsewhere = OSError(number, os.strerror(number), "/elsewhere/images")
    assert fault(elsewhere, places) == f"/elsewhere/images cannot be used: {os.strerror(number)}"


def test_a_place_whose_parent_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "a"
    with pytest.raises(OSError) as caught:
        (place / "described").mkdir(parents=True)
    said = fault(caught.value, {"paths.artifacts": place})
    assert said is not None and f"paths.artifacts=DIR (now {place})" in said


@pytest.mark.parametrize("number", sorted(AWAY))
def test_a_server_that_was_away(places, tmp_path, number):
    file = tmp_path / "a" / "described" / "part"
    said = fault(OSError(number, os.strerror(number), str(file)), places)
    assert said is not None and said.startswith(f"{file}: {os.strerror(number)}. Its server may")
    said = fault(OSError(number, os.strerror(number)), places)  # of an open file: without its name
    assert said is not None and f"paths.artifacts={tmp_path / 'a'}, paths.results=" in said
    assert "the same command goes on" in said


def test_too_many_open_files_and_too_large_ones(places):
    said = fault(OSError(errno.EMFILE, "Too many open files", "x"), places)
    assert said is not None and "ulimit -n" in said and "trainer.workers=0" in said
    said = fault(OSError(errno.EFBIG, "File too large", "part"), places)
    assert said is not None and said.startswith("part is larger than a file may be")


@pytest.mark.parametrize("kind", [MemoryError, torch.OutOfMemoryError])
def test_memory(places, kind):
    said = fault(kind("CUDA out of memory. Tried 2 GiB.\nmore"), places)
    assert said is not None and said.startswith("Out of memory: CUDA out of memory. Tried 2 GiB.")
    assert "models.generator.batch_size" in said


def test_other_errors_are_not_the_machines(places):
    assert fault(ValueError("noise_rate=2"), places) is None
    assert fault(FileNotFoundError(errno.ENOENT, "No such file", "x"), places) is None
    assert fault(RuntimeError("PytorchStreamWriter failed writing file"), places) is None
