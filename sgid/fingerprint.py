"""Fingerprints: a short hash of exactly what determines a result."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def fingerprint(spec: Any) -> str:
    """16 hex digits over the canonical JSON of `spec` (keys sorted, no white space).

    Raises:
        TypeError, ValueError: if `spec` holds something that JSON cannot say, such as NaN.
    """
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
