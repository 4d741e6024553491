import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest
from transformers import BlipForConditionalGeneration, TopPLogitsWarper

from sgid.models.blip import decode, fuse, nucleus, uniforms
from tests.conftest import MODELS

KEYS = [f"key {i}" for i in range(200)]


def logits(rows: int, vocabulary: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


def reference(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """The probabilities that transformers samples from."""
    return TopPLogitsWarper(top_p)(None, scores).softmax(-1)  # type: ignore[arg-type]


@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.999, 1.0])
def test_it_samples_what_transformers_samples(top_p):
    # Numbers spread evenly over [0, 1) take each token as often as it is likely.
    count = 20_000
    even = (torch.arange(count) + 0.5) / count
    for scores in logits(3, 40):
        drawn = nucleus(scores.expand(count, -1), even, top_p)
        found = torch.bincount(drawn, minlength=40) / count
        expected = reference(scores[None], top_p)[0]
        torch.testing.assert_close(found, expected, atol=2 / count, rtol=0)
        assert ((found > 0) <= (expected > 0)).all()


def test_with_the_numbers_of_the_captions():
    scores = logits(1, 12)[0].double()  # chisquare wants sums that agree
    drawn = uniforms(0, KEYS, candidates=5, tokens=30).view(-1, 5, 30)[:, 1:].flatten()
    counts = torch.bincount(nucleus(scores.expand(len(drawn), -1), drawn, 0.9), minlength=12)
    expected = reference(scores[None], 0.9)[0] * len(drawn)
    inside = expected > 0
    assert inside.sum() > 3 and not counts[~inside].any()
    assert chisquare(counts[inside].numpy(), expected[inside].numpy()).pvalue > 0.01


def test_zero_takes_the_most_likely_and_the_first_of_equals():
    scores = logits(50, 30)
    assert torch.equal(nucleus(scores, torch.zeros(50), 0.9), scores.argmax(-1))
    assert nucleus(torch.tensor([[0.0, 3.0, 3.0, 1.0]]), torch.zeros(1), 0.9).tolist() == [1]


@pytest.mark.parametrize("top_p", [1e-6, 0.5, 1.0])
def test_the_largest_number_stays_in_the_nucleus(top_p):
    scores = logits(500, 300)
    drawn = nucleus(scores, torch.full((500,), 1 - 2**-24), top_p)
    assert (reference(scores, top_p).gather(-1, drawn[:, None]) > 0).all()


def test_half_precision_logits_are_summed_in_full():
    scores = logits(1, 5000).half()  # in half precision, 5,000 small masses do not add up
    even = (torch.arange(2000) + 0.5) / 2000
    drawn = nucleus(scores.expand(2000, -1), even, 1.0)
    assert torch.equal(drawn, nucleus(scores.float().expand(2000, -1), even, 1.0))


def test_the_numbers_hang_on_seed_and_key_alone():
    drawn = uniforms(0, KEYS, candidates=5, tokens=30)
    assert drawn.shape == (1000, 30) and drawn.min() >= 0 and drawn.max() < 1
    assert not drawn[::5].any()  # the greedy captions
    assert torch.equal(uniforms(0, KEYS[7:8], candidates=5, tokens=30), drawn[35:40])
    assert torch.equal(uniforms(0, KEYS[7:8], candidates=2, tokens=30), drawn[35:37])
    for other in (uniforms(1, KEYS, candidates=5, tokens=30), drawn.roll(5, 0)):
        assert (
            (drawn.view(200, 5, 30)[:, 1:] != other.view(200, 5, 30)[:, 1:]).all(-1).any(-1).all()
        )


def test_the_numbers_are_even_and_unrelated_from_token_to_token():
    drawn = uniforms(0, KEYS, candidates=5, tokens=30).view(200, 5, 30)[:, 1:].numpy()
    assert kstest(drawn.ravel(), "uniform").pvalue > 0.01
    for one, next in ((drawn[..., :-1], drawn[..., 1:]), (drawn[:, :-1], drawn[:, 1:])):
        assert abs(np.corrcoef(one.ravel(), next.ravel())[0, 1]) < 0.03


def test_it_writes_what_a_loop_without_any_cache_writes():
    blip = BlipForConditionalGeneration.from_pretrained(MODELS / "blip").eval()
    text = blip.config.text_config
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    draws = uniforms(0, ["a", "b"], candidates=3, tokens=14)
    with torch.inference_mode():
        states = blip.vision_model(pixels)[0]
        expected = [_alone(blip, states[row // 3 : row // 3 + 1], draws[row]) for row in range(6)]
        fuse(blip)
        found = decode(blip.text_decoder, states, draws, top_p=0.9).tolist()
    longest = max(map(len, expected))
    padded = [row + [text.pad_token_id] * (longest - len(row)) for row in expected]
    assert found == padded
    assert len({len(row) for row in expected}) > 1  # some end before others


def _alone(blip, states, draws) -> list[int]:
    """One caption, its whole text read anew for each token."""
    text = blip.config.text_config
    tokens = [text.bos_token_id]
    for draw in draws:
        scores = blip.text_decoder(torch.tensor([tokens]), encoder_hidden_states=states).logits
        mass, order = reference(scores[:, -1], 0.9)[0].sort(descending=True)
        tokens.append(int(order[int((mass.cumsum(0) <= draw).sum())]))
        if tokens[-1] == text.sep_token_id:
            break
    return tokens[1:]
