"""A store whose images' scores are known, so that their order is."""

from __future__ import annotations

import numpy as np
import pytest

from sgid.evaluation.filters import ClipScores
from sgid.evaluation.store_summary import labels, source_index
from sgid.review.queue import Queue
from sgid.store.tables import stored_images
from tests.evaluation.test_store_summary import write


@pytest.fixture
def queue(fashion, tmp_path) -> Queue:
    """Two images of each of 24 originals; CLIP takes every seventh for another class."""
    store = write(tmp_path, fashion, 0.25)
    own = labels(store)
    rows = np.arange(store.rows)
    nearest = np.where(rows % 7 == 0, (own + 1) % len(fashion.class_names), own)
    cosines = np.random.default_rng(0).uniform(0, 1, store.rows).astype(np.float32)
    images = stored_images(store, fashion.class_names)
    scores = ClipScores(own, nearest, cosines, cosines, cosines)
    return Queue(store, images, fashion, source_index(store, fashion), scores)
