import numpy as np
import pytest

from sgid.methods.describe import PLACES, OwnCaptions, choose, describe


@pytest.fixture(scope="module")
def described(fashion, make_captioner, make_scorer):
    return list(describe(list(fashion), make_captioner(), make_scorer()))


def test_one_per_sample_in_order(described, fashion):
    for one, sample in zip(described, fashion, strict=True):
        assert (one.key, one.label, one.class_name) == (sample.key, sample.label, sample.class_name)


def test_scores_are_cosines_and_the_best_is_chosen(described, fashion, make_scorer):
    scorer = make_scorer()
    for one, sample in zip(described, fashion, strict=True):
        image = scorer.embed_images([sample.image])[0]
        cosines = scorer.embed_texts(one.candidates) @ image
        np.testing.assert_allclose(one.scores, cosines, atol=0.5 * 10**-PLACES + 1e-6)
        assert one.scores == tuple(round(score, PLACES) for score in one.scores)
        assert one.similarity == max(one.scores)
        assert one.caption == one.candidates[one.scores.index(one.similarity)]


def test_an_image_is_described_the_same_alone(described, fashion, make_captioner, make_scorer):
    (alone,) = describe([fashion[5]], make_captioner(), make_scorer())
    assert (alone.caption, alone.candidates) == (described[5].caption, described[5].candidates)
    assert alone.scores == pytest.approx(described[5].scores, abs=1e-5)


def test_choosing_a_caption_at_random(described):
    assert [choose(one, "best", 0) for one in described] == described
    drawn = [choose(one, "random", 0) for one in described]
    for one, other in zip(described, drawn, strict=True):
        place = one.candidates.index(other.caption)
        assert other.similarity == one.scores[place]
        assert (other.key, other.candidates, other.scores) == (one.key, one.candidates, one.scores)
    assert [choose(one, "random", 0) for one in described[::-1]] == drawn[::-1]
    assert [choose(one, "random", 1) for one in described] != drawn
    assert sum(a.caption != b.caption for a, b in zip(described, drawn, strict=True)) > 5
    with pytest.raises(ValueError, match="caption=worst: unknown; one of best, random"):
        choose(described[0], "worst", 0)


def test_own_captions_are_scored_like_the_captioners(fashion, make_captioner, make_scorer):
    samples = [fashion[index] for index in range(3)]
    scorer, captioner = make_scorer(), make_captioner()
    plain = list(describe(samples, captioner, scorer))
    own = {samples[0].key: ("a pair of trousers", "a photo"), samples[1].key: (plain[1].caption,)}
    joined = list(describe(samples, OwnCaptions(own, captioner), scorer))
    assert joined[0].candidates == ("a pair of trousers", "a photo", *plain[0].candidates)
    assert set(joined[1].candidates) == set(plain[1].candidates)  # said once
    assert joined[1].similarity == plain[1].similarity and joined[2] == plain[2]
    assert joined[0].similarity == max(joined[0].scores)

    (alone,) = describe(samples[:1], OwnCaptions(own, None), scorer)
    assert alone.candidates == own[samples[0].key]
    assert alone.scores == joined[0].scores[:2]
