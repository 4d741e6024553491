"""Ratings by people: a blind questionnaire over stores, the pages to answer it, its analysis."""

from __future__ import annotations
