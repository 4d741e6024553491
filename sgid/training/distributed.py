"""Training of one classifier by several processes of this machine, each on its own device.

The calling process stays as it is. It starts clean ones by `torch.multiprocessing`, which fit by
Lightning's DDP, follows their steps, and ends them all when one fails or when it is stopped; if it
is killed, the system ends them. They meet through a file, and use the loopback interface only.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from sgid.runtime.signals import SIGNALS

if TYPE_CHECKING:
    import torch
    from torch.multiprocessing.spawn import ProcessContext, ProcessException

    from sgid.training.classifier import Classifier
    from sgid.training.datamodule import DataModule
    from sgid.training.trainer import Schedule

BLOCKED = {*SIGNALS, signal.SIGUSR2}
"""Signals that do not reach processes that train; submitit uses the last one."""

GRACE = 2.0
"""Seconds in which the other processes may end by themselves: the first error is not always the
cause."""


def check_devices(device: torch.device, devices: int, *, scored: int | None = None) -> None:
    """Check that so many processes can train on devices of this kind, with `scored` images.

    Raises:
        ValueError: if they cannot.
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
    """Train like `sgid.training.trainer.fit`, in `devices` processes; `classifier` itself does not
    change.

    Raises:
        ValueError: if that cannot be, or for an error in a process that the user can correct.
        ChildProcessError: if a process was killed.
        RuntimeError: if a process failed otherwise; with its traceback.
    """
    import torch
    from torch.multiprocessing.spawn import start_processes

    from sgid.training.checkpoints import resume_path

    check_devices(device, devices, scored=len(data.parts["validation"]))
    resume_path(folder)  # once, before all of them look
    settings = {"plan": plan, "folder": folder, "device": device, "precision": precision}
    try:
        # Not left to multiprocessing: it would use shared memory, of which containers have little,
        # and start a process only once the one before it has imported PyTorch.
        parts = pickle.dumps((classifier, data, settings))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"trainer.devices={devices}: the classifier and its images cannot be handed to other "
            f"processes ({error}); trainer.devices=1 trains in this one"
        ) from error
    threads = max(1, torch.get_num_threads() // devices)
    loads = multiprocessing.get_start_method()  # else the loading processes were spawned as well
    pipes = [multiprocessing.Pipe(duplex=False) for _ in range(devices)]
    readers, writers = zip(*pipes, strict=True)
    context: Any = None
    with TemporaryDirectory(prefix="sgid-") as meeting:
        Path(meeting, "parts").write_bytes(parts)
        shared = devices, meeting, threads, loads, writers
        try:
            with _signals_blocked():
                context = start_processes(_work, shared, devices, join=False)
            return _follow(context, readers, on_step, on_epoch)
        finally:
            if context is not None:
                _end(context)
            for connection in (*readers, *writers):
                connection.close()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Delay Ctrl-C and `kill`: a process that is only half started could not be ended."""
    resource_tracker.ensure_running()  # its first start would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _follow(
    context: ProcessContext,
    readers: Sequence[Connection],
    on_step: Callable[[int, int], object] | None,
    on_epoch: Callable[[dict[str, float]], object] | None,
) -> dict[str, float]:
    """Report steps and epochs until all processes have ended; the metrics of the first."""
    from torch.multiprocessing.spawn import ProcessException

    metrics: dict[str, float] = {}
    errors: list[Exception] = []
    ended, failure = False, None
    while not ended and failure is None:
        wait([*readers, *context.sentinels])
        codes = [process.exitcode for process in context.processes]
        try:
            ended = context.join(timeout=0, grace_period=GRACE)
        except ProcessException as error:  # it has ended the other processes
            failure = error
        while ready := wait(readers, timeout=0):
            for kind, *values in (cast(Connection, reader).recv() for reader in ready):
                if kind == "step" and on_step:
                    on_step(*values)
                elif kind == "epoch" and on_epoch:
                    on_epoch(*values)
                elif kind == "done":
                    metrics = values[0]
                elif kind == "error":
                    errors.append(values[0])
        if failure is not None:
            raise _cause(failure, codes, errors)
    return metrics


def _end(context: ProcessContext) -> None:
    for process in context.processes:
        process.kill()  # PyTorch's loading processes notice, and end
        process.join()
    for file in context.error_files:
        Path(file).unlink(missing_ok=True)


def _cause(
    failure: ProcessException, codes: Sequence[int | None], errors: Sequence[Exception]
) -> Exception:
    """The error to raise: of several processes that fail, most do since they lost another one.

    Args:
        codes: exit codes before PyTorch ended the other processes.
        errors: those that the processes had for the user.
    """
    from torch.multiprocessing.spawn import ProcessExitedException

    option = f"trainer.devices={len(codes)}"
    killed = next((rank for rank, code in enumerate(codes) if code and code < 0), None)
    if killed is not None or isinstance(failure, ProcessExitedException):
        rank = failure.error_index if killed is None else killed
        # It may have died after the codes were read: then the failure alone has its own.
        code = codes[rank] or failure.exit_code  # pyright: ignore[reportAttributeAccessIssue]
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return ChildProcessError(
            f"{option}: process {rank} of the training died ({how}), most likely since memory ran "
            "out: lower trainer.workers. The same command goes on from the last checkpoint; a "
            "lower backbone.batch_size makes it another run"
        )
    failed = RuntimeError(
        f"{option}: process {failure.error_index} of the training failed\n{failure.msg.strip()}"
    )
    if not errors:
        return failed
    errors[0].__cause__ = failed
    return errors[0]


def _work(
    rank: int,
    devices: int,
    meeting: str,
    threads: int,
    loads: str,
    connections: Sequence[Connection],
) -> None:
    """Fit the pickled parts, and send steps, epochs, and the metrics or an error for the user.

    Args:
        meeting: a folder with the parts, in which the processes find each other.
        threads: for PyTorch on a CPU.
        loads: the start method of processes that load data.
    """
    os.setsid()  # Ctrl-C and the signals of a scheduler are for the process that started this one
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # sent when that one dies: `start_processes` asks
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # the others stay blocked
    parent = multiprocessing.parent_process()
    if parent is None or not parent.is_alive():  # it died before that signal was asked for
        return
    multiprocessing.set_start_method(loads, force=True)
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(devices)}
    connection = connections[rank]
    try:
        metrics = _fit(rank, devices, meeting, threads, connection)
    except (ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # the message for a full disk needs these
            plain = OSError(error.errno, error.strerror, error.filename)
        else:
            plain = ValueError(str(error))
        connection.send(("error", plain))
        raise
    if rank == 0:
        connection.send(("done", metrics))


def _fit(rank: int, devices: int, meeting: str, threads: int, connection: Any) -> dict[str, float]:
    import torch
    from torch import distributed
    from torch.distributed import FileStore  # pyright: ignore[reportPrivateImportUsage]

    from sgid.training.trainer import fit

    classifier, data, settings = pickle.loads(Path(meeting, "parts").read_bytes())
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
    callbacks = {}
    if rank == 0:
        callbacks["on_step"] = lambda step, steps: connection.send(("step", step, steps))
        callbacks["on_epoch"] = lambda row: connection.send(("epoch", row))
    metrics = fit(classifier, data, **settings, loggers=[], devices=devices, **callbacks)
    distributed.destroy_process_group()
    return metrics
