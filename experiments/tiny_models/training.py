"""The training loop that all the bundled models share: seeded, with checkpoints to go on from."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm


def train(
    modules: nn.ModuleDict,
    loss: Callable[[Tensor], Tensor],
    *,
    images: int,
    batch_size: int,
    steps: int,
    learning_rate: float,
    checkpoint: Path,
    seed: int = 0,
    ema: float = 0.0,
    save_every: int = 250,
) -> Iterator[tuple[int, float]]:
    """AdamW with warm-up and a cosine to 0; yields (step, loss) every 50 steps.

    `loss` is given the rows (B,) of a batch. With `ema`, the modules hold the exponential moving
    average of their weights in the end. Batches and noise of a step follow from its number.
    """
    optimizer = torch.optim.AdamW(modules.parameters(), lr=learning_rate, weight_decay=0.01)
    average = {name: value.clone() for name, value in modules.state_dict().items()} if ema else {}
    start = 0
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        modules.load_state_dict(state["modules"])
        optimizer.load_state_dict(state["optimizer"])
        start, average = state["step"], state["average"]
    modules.train()
    for step in tqdm(range(start, steps), initial=start, total=steps, mininterval=5):
        torch.manual_seed(seed * 1_000_003 + step)
        warm = min(1.0, (step + 1) / (0.03 * steps))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
        value = loss(torch.randint(images, (batch_size,)))
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
            yield step, float(value)
        if (step + 1) % save_every == 0 or step + 1 == steps:
            _save(checkpoint, modules, optimizer, step + 1, average)
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
