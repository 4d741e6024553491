from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sgid.methods.guidance import averaged, fixed, follows_similarity, inverse, linear

SIMILARITIES = st.lists(st.floats(-1, 1).map(lambda s: round(s, 6)), min_size=1, max_size=40)
BOUNDS = st.tuples(st.floats(0, 30), st.floats(0, 30)).map(sorted)
QUANTILES = st.tuples(st.floats(0, 0.45), st.floats(0.55, 1))


@given(SIMILARITIES, BOUNDS, QUANTILES)
def test_linear_never_falls_and_stays_within_its_bounds(similarities, bounds, quantiles):
    low, high = bounds
    scales = linear(similarities, min=low, max=high, quantiles=quantiles)
    assert scales.shape == (len(similarities),)
    assert (np.diff(scales[np.argsort(similarities, kind="stable")]) >= 0).all()
    assert scales.min() >= low - 1e-9 and scales.max() <= high + 1e-9


@given(SIMILARITIES, BOUNDS, QUANTILES)
def test_inverse_is_linear_turned_round(similarities, bounds, quantiles):
    low, high = bounds
    options = {"min": low, "max": high, "quantiles": quantiles}
    both = linear(similarities, **options) + inverse(similarities, **options)
    np.testing.assert_allclose(both, low + high, atol=1e-9)


@given(SIMILARITIES, QUANTILES)
def test_the_bounds_are_reached_at_the_quantiles_and_beyond(similarities, quantiles):
    low, high = np.quantile(similarities, quantiles)
    assume(high > low)
    scales = linear(similarities, min=3, max=7.5, quantiles=quantiles)
    s = np.array(similarities)
    np.testing.assert_allclose(scales[s <= low], 3)
    np.testing.assert_allclose(scales[s >= high], 7.5)
    assert ((scales > 3) & (scales < 7.5))[(s > low) & (s < high)].all()


def test_linear_between_the_quantiles():
    similarities = np.linspace(0.2, 0.4, 101)
    scales = linear(similarities, min=3, max=7.5, quantiles=(0.05, 0.95))
    np.testing.assert_allclose(scales[50], 5.25)
    np.testing.assert_allclose(scales[5:96], np.linspace(3, 7.5, 91))


@given(SIMILARITIES, st.floats(-0.5, 0.5), st.floats(0.1, 3))
def test_it_calibrates_itself(similarities, shift, stretch):
    # CLIP models differ in what a high cosine is; only the order and the spacing count.
    assume(np.ptp(similarities) > 0.01)
    s = np.array(similarities)
    assume(np.ptp(np.quantile(s, (0.05, 0.95))) > 0.01)
    one, other = linear(s, min=1, max=9), linear(s * stretch + shift, min=1, max=9)
    np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("guide", [linear, inverse])
def test_equal_similarities_get_the_middle(guide):
    assert guide([0.3, 0.3, 0.3], min=3, max=7).tolist() == [5, 5, 5]
    assert guide([0.3], min=3, max=7).tolist() == [5]


@pytest.mark.parametrize("guide", [linear, inverse])
def test_without_captions_there_is_no_similarity_to_follow(guide):
    with pytest.raises(ValueError, match="similarity of every caption"):
        guide([0.3, float("nan")], min=3, max=7)


def test_fixed_needs_no_similarity():
    assert fixed([0.1, float("nan"), 0.9], scale=5).tolist() == [5.0, 5.0, 5.0]


def test_averaged_is_as_strong_as_the_map_and_the_same_for_all():
    similarities = np.random.default_rng(0).uniform(0.2, 0.4, 200)
    follow = partial(linear, min=3, max=7.5)
    scales = averaged(similarities, of=follow)
    assert len(set(scales.tolist())) == 1
    assert scales[0] == pytest.approx(follow(similarities).mean())
    assert follows_similarity(partial(averaged, of=follow)) and follows_similarity(linear)
    assert not follows_similarity(partial(fixed, scale=3)) and not follows_similarity(fixed)
