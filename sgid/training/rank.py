"""One of the processes that train a classifier together, from its start to its end."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from typing import Any


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

    from sgid.training.fit import fit

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
