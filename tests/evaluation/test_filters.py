"""What filters keep, on figures whose answer is plain."""

import numpy as np

from sgid.evaluation.filters import ClipScores, band, label

JUDGED = ClipScores(
    labels=np.array([0, 1, 2, 0]),
    nearest=np.array([0, 2, 2, 1]),
    cosines=np.array([0.2, 0.5, 0.75, 0.98], np.float32),
)


def test_label_keeps_what_clip_takes_for_its_class():
    assert label(JUDGED).tolist() == [True, False, True, False]


def test_band_keeps_both_ends():
    assert band(JUDGED, min=0.5, max=0.75).tolist() == [False, True, True, False]
    assert band(JUDGED, min=-1, max=1).all()
