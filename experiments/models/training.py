"""The training loop that all the bundled models share: seeded, with checkpoints to go on from."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from experiments.models.world import Training


def train(
    modules: nn.ModuleDict,
    loss: Callable[[Tensor], Tensor],
    training: Training,
    *,
    images: int,
    checkpoint: Path,
    seed: int = 0,
    ema: float = 0.0,
    steps: int | None = None,
    deadline: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[int, float]]:
    """AdamW with warm-up and a cosine to 0; yields (step, loss) every 50 steps.

    `loss` takes the rows (B,) of a batch, drawn on the CPU. Batches and noise of a step follow from
    its number, so that a training that was killed goes on as if it had not been.
    With `ema`, the modules hold the exponential moving average of their weights in the end.
    `steps` are to be done instead of the training's own; with a `deadline` (of `time.monotonic`)
    this call ends there, and a later one goes on. Weights have 32 bits; with another `dtype` the
    loss is computed in that where PyTorch's autocast takes it to be safe.
    """
    steps = steps or training.steps
    optimizer = torch.optim.AdamW(
        modules.parameters(), lr=training.learning_rate, weight_decay=0.01
    )
    average = {name: value.clone() for name, value in modules.state_dict().items()} if ema else {}
    device = next(modules.parameters()).device
    start = 0
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        modules.load_state_dict(state["modules"])
        optimizer.load_state_dict(state["optimizer"])
        start, average = state["step"], state["average"]
    modules.train()
    for step in tqdm(range(start, steps), initial=start, total=steps, mininterval=5, disable=None):
        torch.manual_seed(seed * 1_000_003 + step)
        warm = min(1.0, (step + 1) / (0.03 * steps))
        for group in optimizer.param_groups:
            group["lr"] = (
                training.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
            )
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            value = loss(torch.randint(images, (training.batch_size,)))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        if ema:
            with torch.no_grad():
                decay = min(ema, (step + 1) / (step + 10))
                for name, weight in modules.state_dict().items():
                    if weight.is_floating_point():
                        average[name].lerp_(weight, 1 - decay)
        if step % 50 == 0:
            yield step, value.item()
        late = deadline is not None and time.monotonic() > deadline
        if late or (step + 1) % training.save_every == 0 or step + 1 == steps:
            _save(checkpoint, modules, optimizer, step + 1, average)
        if late:
            break
    if ema:
        modules.load_state_dict(average)
    modules.eval()


def _save(path: Path, modules: nn.Module, optimizer, step: int, average: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    torch.save(
        {
            "modules": modules.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": step,
            "average": average,
        },
        partial,
    )
    os.replace(partial, path)


def halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights in 16 bits; counters stay as they are."""
    return {key: v.half() if v.is_floating_point() else v for key, v in state.items()}
