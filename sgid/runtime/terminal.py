"""Progress bars, and filters for the libraries' own chatter; their errors still come through."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

from tqdm import tqdm


def program() -> str:
    """The command that is typed for this program: `sgid`, or `python run.py` in a clone."""
    if Path(sys.argv[0]).stem == "sgid":
        return "sgid"
    return "python run.py" if Path(__file__).parents[2].joinpath("run.py").is_file() else "sgid"


def progress(what: str, total: int, unit: str, *, done: int = 0, scaled: bool = False) -> tqdm:
    """Progress bar that starts at `done`; a line every 15 s where the output is no terminal.

    `scaled` writes 1.2G for large numbers.
    """
    interval = 0.2 if sys.stderr.isatty() else 15.0
    return tqdm(
        total=total,
        initial=done,
        desc=f"{what:>12}",
        unit=f" {unit}",
        unit_scale=scaled,
        mininterval=interval,
        maxinterval=interval,
        disable=done >= total,
        smoothing=0.05,
    )


def quiet_generation() -> None:
    """Silence diffusers and transformers, before their models are loaded; imports both."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    quiet()


def quiet() -> None:
    """Silence timm, open_clip and Lightning, before a classifier is trained; imports nothing."""
    # open_clip logs each step of its loading to the root logger.
    logging.getLogger().addFilter(_not_open_clip)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_not_open_clip)
    # timm logs the weights that it loads.
    logging.getLogger("timm").setLevel(logging.WARNING)
    # Lightning's advice about workers and logging intervals: the config decides these.
    for library in ("pytorch_lightning", "lightning_fabric", "torch.multiprocessing.spawn"):
        logging.getLogger(library).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")


def _not_open_clip(record: logging.LogRecord) -> bool:
    return "open_clip" not in record.pathname or record.levelno >= logging.ERROR
