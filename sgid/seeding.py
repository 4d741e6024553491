"""Seeds that are hashes of what they are for: order, batch size and workers never matter."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *parts: object) -> int:
    """A 63-bit seed from a run seed and the things it is for, e.g. a sample key and a repeat."""
    text = "\x1f".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
