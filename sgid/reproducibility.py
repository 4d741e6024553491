"""Fingerprints, seeds and versions: the identity of a result, and the code that made it.

A fingerprint is a short hash of exactly what determines a result. Seeds are hashes of what they are
for, so that order, batch size and workers never matter.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

CODE = 5
"""Version of what the code makes of a spec; raised when it makes something else of the same one."""


def fingerprint(spec: Any) -> str:
    """16 hex digits over the canonical JSON of `spec` (keys sorted, no white space).

    Raises:
        TypeError, ValueError: if `spec` holds something that JSON cannot say, such as NaN.
    """
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


PACKAGES = (
    "torch", "torchvision", "diffusers", "transformers", "open_clip_torch", "timm",
    "pytorch-lightning", "hydra-core", "numpy", "pillow", "pyarrow",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide results."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit of this checkout, with `-dirty` after it if files differ; `None` outside git."""

    def git(*words: str) -> str:
        root = Path(__file__).parent
        return subprocess.run(
            ["git", *words], cwd=root, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        # Else it is the checkout that an environment lies in.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def content(metrics: Mapping[str, float], generated: Sequence[Mapping[str, Any]]) -> str:
    """16 hex digits of what was measured: equal on two machines that measured the same.

    Times and places are left out.
    """
    timeless = {name: value for name, value in metrics.items() if "seconds" not in name}
    placeless = [{key: one[key] for key in one if key != "path"} for one in generated]
    return fingerprint([timeless, placeless])


SEEDS = 2**63
"""Seeds are below it."""


def derive_seed(seed: int, *parts: object) -> int:
    """A 63-bit seed from a run seed and the things it is for, e.g. a sample key and a repeat."""
    text = "\x1f".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
