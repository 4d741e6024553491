"""The chosen augmentations, slot by slot, as the stages take them.

An entry of `conf/aug/` says which slot it fills: `offline` (a generative method), `base` (what all
training images go through first), `online` (per image), or `batch` (Mixup and its like).
"""

from __future__ import annotations
