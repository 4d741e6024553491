"""Ray on this machine, by the command: nobody is let in, and a stopped run leaves shards alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from sgid.cluster.driver import LOOPBACK, QUIET, TOKEN
from tests.cluster import light
from tests.cluster.conftest import OPTIONS, at_work, parent, planned
from tests.end_to_end.conftest import place

__all__ = ["place"]  # a fixture


def processes(temporary: Path) -> list[int]:
    """Those whose command names a file in this folder, as those of a Ray with its files there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        if os.fsencode(temporary) in command:
            found.append(int(process.name))
    return found


def heard_at(processes: list[int]) -> set[str]:
    """The addresses at which these processes take connections from."""
    inodes = set()
    for process in processes:
        try:
            opened = [os.readlink(one) for one in Path(f"/proc/{process}/fd").iterdir()]
        except OSError:
            continue
        inodes |= {name[8:-1] for name in opened if name.startswith("socket:[")}
    addresses = set()
    for family, table in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:  # it listens
                address = bytes.fromhex(words[1].partition(":")[0])
                groups = [address[start : start + 4][::-1] for start in range(0, len(address), 4)]
                addresses.add(socket.inet_ntop(family, b"".join(groups)))
    return addresses


def wait(done, driver: subprocess.Popen[str]) -> None:
    """Until it has come, which has to be before the driver ends if that runs now."""
    running, until = driver.poll() is None, time.monotonic() + 600
    while not done():
        assert not running or driver.poll() is None, driver.communicate()
        assert time.monotonic() < until, "it never came"
        time.sleep(0.05)


def rays_folder(driver: int) -> Path:
    """The folder of the Ray that a process has started."""
    (folder,) = (
        folder
        for folder in Path("/tmp").glob("sgid-ray-*")
        if driver in map(parent, processes(folder))
    )
    return folder


@pytest.mark.slow
def test_a_signal_ends_the_workers_and_keeps_shards(place, alone, monkeypatch):
    for name in (*QUIET, *LOOPBACK, TOKEN):  # the command's own affair
        monkeypatch.delenv(name, raising=False)
    temporary = place.top / "of a name that is too long for the sockets of a Ray"
    temporary.mkdir()
    options = ("aug=img2img_label", *light.OPTIONS)
    folder = planned(place.artifacts, *options)[1].generated.folder
    part = folder / "part-00000.parquet"
    folder.mkdir(parents=True)
    made = alone(*options)[f"img2img_label/{part.name}"]
    part.write_bytes(made)
    hold = place.top / "hold"
    hold.touch()  # as long as it is there, workers do not end their work
    monkeypatch.setenv(light.HOLD, str(hold))
    driver = place.start(*OPTIONS, *options, "stage=augment", TMPDIR=str(temporary))
    try:
        wait(lambda: at_work(folder), driver)
        ray = rays_folder(driver.pid)
        assert heard_at(processes(ray)) <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
        assert heard_at(processes(ray)), "this test sees nobody listen"
        driver.send_signal(signal.SIGTERM)
        _, said = driver.communicate(timeout=600)
    finally:
        driver.kill()
    assert driver.returncode == 128 + signal.SIGTERM
    assert "goes on from there" in said and "Traceback" not in said
    wait(lambda: not processes(ray) and not at_work(folder), driver)
    assert not ray.exists()
    assert not (place.top / "home" / ".ray").exists(), "no token is left"
    assert part.read_bytes() == made
    assert [path.name for path in folder.glob("[!.]*.parquet")] == [part.name]
    assert not list(folder.glob("manifest.json"))
