"""Training of one classifier by several processes of this machine, each on its own device.

The calling process stays as it is. It starts clean ones, which fit by Lightning's DDP, follows
their steps, and ends them all when one fails or when it is stopped itself; if it is killed, they
notice and end. They meet through a file, and talk over the loopback interface alone.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sgid.runtime.signals import SIGNALS

if TYPE_CHECKING:
    import torch

    from sgid.training.classifier import Classifier
    from sgid.training.datamodule import DataModule
    from sgid.training.trainer import Schedule


POLL = 0.5
"""Seconds after which it is looked whether all processes live."""


GRACE = 2.0
"""Seconds in which the others' errors may still come: the first to come is not always the cause."""


def check_devices(device: torch.device, devices: int, *, scored: int | None = None) -> None:
    """Whether so many processes can train on devices of this kind; `scored` images to validate on.

    Raises:
        ValueError: if not.
    """
    import torch

    if devices == 1:
        return
    option = f"trainer.devices={devices}"
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"{option}: not with trainer.device={device}, which there is one of")
    if device.index is not None:
        raise ValueError(f"{option}: not with trainer.device={device}; trainer.device=cuda has all")
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise ValueError(f"{option}: this machine has {torch.cuda.device_count()} GPUs")
    if scored is not None and scored < devices:
        raise ValueError(f"{option}: there are only {scored} images to validate on")


def fit_together(
    devices: int,
    classifier: Classifier,
    data: DataModule,
    *,
    plan: Schedule,
    folder: Path,
    device: torch.device,
    precision: str,
    on_step: Callable[[int, int], object] | None = None,
    on_epoch: Callable[[dict[str, float]], object] | None = None,
) -> dict[str, float]:
    """As `sgid.training.trainer.fit`, in `devices` processes; `classifier` here stays untrained.

    Raises:
        ValueError: if that cannot be, or for what a process says that the user can mend.
        ChildProcessError: if a process was killed.
        RuntimeError: if one failed otherwise; with its traceback.
    """
    import torch

    from sgid.training.checkpoints import resumable

    check_devices(device, devices, scored=len(data.parts["validation"]))
    resumable(folder)  # once, before all of them look
    settings = {"plan": plan, "folder": folder, "device": device, "precision": precision}
    try:
        # Not left to multiprocessing: it would go by shared memory, of which containers have little
        parts = pickle.dumps((classifier, data, settings))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"trainer.devices={devices}: the classifier and its images cannot be handed to other "
            f"processes ({error}); trainer.devices=1 trains in this one"
        ) from error
    threads = max(1, torch.get_num_threads() // devices)
    crew: list[_Process] = []
    with TemporaryDirectory(prefix="sgid-") as meeting:
        try:
            with _held_back():
                for rank in range(devices):
                    crew.append(_start(rank, devices, meeting, threads, parts))
            return _listen(crew, on_step, on_epoch)
        finally:
            for one in crew:
                one.end()


@contextmanager
def _held_back() -> Iterator[None]:
    """Ctrl-C and `kill` wait: a process that is started half is in nobody's list, and says so."""
    resource_tracker.ensure_running()  # which lets the signals through again, the first time
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(frozen=True)
class _Process:
    rank: int
    process: Any
    connection: Any

    def end(self) -> None:
        """With the processes that load its data, unless it has ended by itself."""
        if self.process.is_alive():
            with suppress(
                ProcessLookupError, AttributeError
            ):  # it leads a group, if it came so far
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
        self.process.join()
        self.connection.close()


def _start(rank: int, devices: int, meeting: str, threads: int, parts: bytes) -> _Process:
    context = multiprocessing.get_context("spawn")  # CUDA does not live on in a fork
    ours, theirs = context.Pipe(duplex=False)
    loads = multiprocessing.get_start_method()  # else those that load its data were spawned as well
    process = context.Process(
        target=work, args=(rank, devices, meeting, threads, loads, theirs, parts)
    )
    process.start()
    theirs.close()
    return _Process(rank, process, ours)


def _listen(
    crew: Sequence[_Process],
    on_step: Callable[[int, int], object] | None,
    on_epoch: Callable[[dict[str, float]], object] | None,
) -> dict[str, float]:
    """Hear the processes out; the metrics of the first, once all have ended."""
    metrics: dict[int, dict[str, float]] = {}
    while len(metrics) < len(crew):
        ready = wait([one.connection for one in crew if one.rank not in metrics], POLL)
        for one in crew:
            if one.connection in ready:
                kind, *said = _receive(one)
                if kind == "step" and on_step:
                    on_step(*said)
                elif kind == "epoch" and on_epoch:
                    on_epoch(*said)
                elif kind == "done":
                    metrics[one.rank] = said[0]
                elif kind in ("error", "gone"):
                    raise _cause(crew, one.rank, kind, *said)
            elif one.rank not in metrics and _silent(one):
                raise _cause(crew, one.rank, "gone")
    return metrics[0]


def _silent(one: _Process) -> bool:
    """Whether it has ended; its connection may be held open by processes that load its data."""
    return one.process.exitcode is not None and not one.connection.poll()


def _receive(one: _Process) -> tuple[Any, ...]:
    try:
        return one.connection.recv()
    except (EOFError, ConnectionError):
        return ("gone",)


def _cause(crew: Sequence[_Process], rank: int, kind: str, *said: str | None) -> Exception:
    """What to raise: of several processes that fail, most do since they have lost another one."""
    told: dict[int, Any] = {rank: said} if kind == "error" else {}
    end = time.monotonic() + GRACE
    for one in crew:
        one.process.join(max(0.0, end - time.monotonic()))
        while one.rank not in told and one.connection.poll():
            what, *more = _receive(one)
            if what == "error":
                told[one.rank] = tuple(more)
            elif what == "gone":
                break
    option = f"trainer.devices={len(crew)}"
    for one in crew:
        if one.rank not in told and (code := one.process.exitcode):
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return ChildProcessError(
                f"{option}: process {one.rank} of the training died ({how}), most likely since "
                "memory ran out: lower trainer.workers. The same command goes on from the last "
                "checkpoint; a lower backbone.batch_size makes it another run"
            )
    # Messages for people come before what libraries say of a lost connection.
    for rank, (text, trace) in sorted(told.items(), key=lambda item: item[1][0] is None):
        at_first = RuntimeError(f"{option}: process {rank} of the training failed\n{trace}")
        if text is None:
            return at_first
        error = ValueError(text) if isinstance(text, str) else OSError(*text)
        error.__cause__ = at_first
        return error
    return RuntimeError(f"{option}: process {rank} of the training ended without a word")


def work(
    rank: int,
    devices: int,
    meeting: str,
    threads: int,
    loads: str,
    connection: Any,
    parts: bytes,
) -> None:
    """Fit the pickled `parts`, and tell `connection` of it: steps and epochs, `done` or `error`.

    Args:
        meeting: a folder in which the processes find each other.
        threads: for PyTorch on a CPU.
        loads: the start method of processes that load data.
    """
    if hasattr(os, "setsid"):
        os.setsid()  # a Ctrl+C is for the process that has started this one, and ends it
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    threading.Thread(target=_end_with_parent, args=(meeting,), daemon=True).start()
    multiprocessing.set_start_method(loads, force=True)
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(devices)}
    try:
        metrics = _fit(rank, devices, meeting, threads, connection, parts)
    except Exception as error:
        text = str(error) if isinstance(error, ValueError | OSError) else None
        if isinstance(error, OSError) and error.errno:  # a full disk is said in other words
            text = error.errno, error.strerror, error.filename
        with suppress(OSError):
            connection.send(("error", text, traceback.format_exc()))
        sys.exit(1)
    connection.send(("done", metrics))


def _fit(
    rank: int, devices: int, meeting: str, threads: int, connection: Any, parts: bytes
) -> dict[str, float]:
    import torch
    from torch import distributed
    from torch.distributed import FileStore  # pyright: ignore[reportPrivateImportUsage]

    from sgid.training.trainer import fit

    classifier, data, settings = pickle.loads(parts)
    cuda = settings["device"].type == "cuda"
    if not cuda:
        torch.set_num_threads(threads)
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    for library in ("GLOO", "NCCL"):
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", (loopback or ["lo"])[0])
    distributed.init_process_group(
        "nccl" if cuda else "gloo",
        store=FileStore(f"{meeting}/meeting", devices),
        rank=rank,
        world_size=devices,
        device_id=torch.device("cuda", rank) if cuda else None,
    )
    told = {}
    if rank == 0:
        told["on_step"] = lambda step, steps: connection.send(("step", step, steps))
        told["on_epoch"] = lambda row: connection.send(("epoch", row))
    metrics = fit(classifier, data, **settings, loggers=[], devices=devices, **told)
    distributed.destroy_process_group()
    return metrics


def _end_with_parent(meeting: str) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    shutil.rmtree(meeting, ignore_errors=True)  # which it has not got to
    if hasattr(os, "killpg"):
        os.killpg(os.getpid(), signal.SIGKILL)  # what loads its data as well
    os._exit(1)
