"""Charts of many runs for a paper or a page: pure functions from figures to matplotlib's."""

from __future__ import annotations
