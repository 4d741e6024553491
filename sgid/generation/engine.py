"""Float32 fallback: images that are broken in a narrow number format are drawn again.

A number beyond 65,504 is infinite in float16, soon all of its image is no number, and what other
programs then show is black. A row of the store says in which format its image was drawn.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sgid.records import Generated, Request
from sgid.runtime.batching import out_of_memory

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


log = logging.getLogger(__name__)

Drawn: TypeAlias = "Generator[tuple[Request, Image | None]]"
"""Requests with their images, `None` for one that is not finite."""


def redrawn(
    drawn: Drawn,
    *,
    asked: int,
    dtype: torch.dtype,
    exactly: Callable[[Sequence[Request]], Drawn],
    weights: Path,
) -> Iterator[Generated]:
    """Yield the sound images of `drawn`, then the others, which `exactly` draws in float32.

    Not sound is what is not finite or, where `dtype` is not float32, all black. What is still black
    in float32 is kept, and told: its original may be.

    Args:
        asked: the number of requests.
        dtype: what `drawn` is drawn in.
        weights: the folder of the model.

    Raises:
        ValueError: when an image is not finite in float32, or there is no memory to draw it so.
    """
    name, broken = str(dtype).removeprefix("torch."), []
    with closing(drawn):
        for request, image in drawn:
            if image is None and name == "float32":
                raise _never_finite(request, weights)
            if image is None or (name != "float32" and _is_black(image)):
                broken.append(request)
            else:
                yield Generated(request, image, name)
    if not broken:
        return
    log.warning(
        "%d of %d images drawn again in float32: not finite or black in %s",
        *(len(broken), asked, name),
    )
    try:
        with closing(exactly(broken)) as again:
            for request, image in again:
                if image is None:
                    raise _never_finite(request, weights)
                if _is_black(image):
                    log.warning("%s: black in float32 too, and kept", _named(request))
                yield Generated(request, image, "float32")
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise ValueError(
            f"{len(broken)} of {asked} images are not finite or black in {name}, and memory runs "
            "out as they are drawn again in float32, with the model loaded a second time; take "
            "models.generator.dtype=bfloat16 (or float32), or another trainer.device"
        ) from error
    finally:
        gc.collect()  # hooks hold on to the second model


def _is_black(image: Image) -> bool:
    """Whether every level of an RGB image is 0."""
    return image.getbbox() is None


def _never_finite(request: Request, weights: Path) -> ValueError:
    return ValueError(
        f"{_named(request)}: not finite, in float32 at that, with guidance "
        f"{request.guidance_scale:g} and noise_rate={request.strength:g}. If other images fail "
        f"too, the weights in {weights} may be damaged (models.generator.weights); if not, take a "
        "lower guidance.max or another models.generator.scheduler"
    )


def _named(request: Request) -> str:
    return f"{request.described.key}, repeat {request.repeat}, prompt {request.prompt!r}"
