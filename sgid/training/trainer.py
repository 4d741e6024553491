"""Lightning's trainer: quiet, and what ends its loops comes out of them as what it is."""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy

from sgid.runtime.terminal import quiet
from sgid.training.checkpoints import WholeFiles

if TYPE_CHECKING:
    from sgid.data.datamodule import DataModule

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ALLOCATORS = ("DefaultCPUAllocator", "ALLOC_FAILED", "out of memory")
"""How errors of PyTorch and CUDA begin, or name themselves, that have no class of their own."""


def make_trainer(
    device: torch.device,
    precision: str,
    loggers: Sequence[Any] = (),
    *,
    devices: int = 1,
    callbacks: Sequence[pl.Callback],
    **options: Any,
) -> pl.Trainer:
    """A trainer on one device, or in one of the `devices` processes that train together."""
    quiet()
    if precision == "auto":
        precision = "bf16-mixed" if device.type == "cuda" else "32-true"
    own = [device.index] if device.type == "cuda" and device.index is not None else 1
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=own if devices == 1 else devices,
        # Buffers are averaged before each validation: a broadcast with each batch would be of the
        # first process alone, and waits for ever where one has fewer batches to score.
        strategy="auto" if devices == 1 else DDPStrategy(broadcast_buffers=False),
        use_distributed_sampler=False,  # the data module shares the batches out
        precision=precision,  # type: ignore[arg-type]
        logger=list(loggers) or False,
        # Its own environment, also within a SLURM job, whose signals and tasks are not its affair.
        plugins=[LightningEnvironment(), WholeFiles()],
        callbacks=[_Signals(), *callbacks],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )


@final
class _Signals(pl.Callback):
    """Takes the handlers of the caller back from Lightning, which puts in its own right before."""

    def __init__(self) -> None:
        self.before = {number: signal.getsignal(number) for number in SIGNALS}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        _restore(self.before)

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        _restore(self.before)


@contextmanager
def running(data: DataModule, precision: str) -> Iterator[None]:
    """Around a trainer's loops: a stop comes out as the exception that it was, errors for people.

    Raises:
        ValueError: if memory ran out; it names the options that take less.
        ChildProcessError: if a process that loads data died.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    except SystemExit as error:  # what Lightning makes of a KeyboardInterrupt
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        raise error.__context__ from None
    except (RuntimeError, MemoryError) as error:
        if text := _for_people(error, data, precision):
            kind = ValueError if _out_of_memory(error) else ChildProcessError
            raise kind(text) from error
        raise
    except (ConnectionError, EOFError, FileNotFoundError) as error:
        if not _of_loading(error):
            raise
        raise ChildProcessError(_died(data, error)) from error
    finally:
        _restore(before)  # after a stop Lightning ignores the next Ctrl+C


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            if handler is not None:  # None: set by other than Python, and cannot be set by it
                signal.signal(number, handler)


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(name in str(error) for name in ALLOCATORS)


def _for_people(error: BaseException, data: DataModule, precision: str) -> str | None:
    size = f"backbone.batch_size (now {data.batch_size})"
    what = str(error).strip().partition("\n")[0]
    if _out_of_memory(error):
        return (
            f"Memory ran out in training: lower {size} or backbone.image_size, or take "
            f"trainer.precision=bf16-mixed (now {precision}); each of them makes it another run. "
            f"({what or type(error).__name__})"
        )
    if "DataLoader worker" in what or "Pin memory thread exited" in what:
        return _died(data, error)
    return None


def _of_loading(error: BaseException) -> bool:
    """Whether it arose in taking a batch over: from a process that dies just then, before PyTorch
    can know that it has."""
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    return any(file.parts[-2:] == ("multiprocessing", "resource_sharer.py") for file in files)


def _died(data: DataModule, error: BaseException) -> str:
    what = str(error).strip().partition("\n")[0].rstrip(". ") or type(error).__name__
    return (
        f"A process that loads images died ({what}), most likely since memory ran "
        f"out: lower trainer.workers (now {data.workers}; 0 loads them in the process that "
        "trains). The same command goes on from the last checkpoint"
    )
