import pytest
import torch
from transformers import BlipForConditionalGeneration, DynamicCache, EncoderDecoderCache

from sgid.models.blip import ImageAttention, SharedCrossAttention, fuse
from tests.conftest import MODELS

IMAGES, CANDIDATES = 3, 4


@pytest.fixture(scope="module")
def blip():
    return BlipForConditionalGeneration.from_pretrained(MODELS / "blip").eval()


@pytest.fixture(scope="module")
def fused():
    model = BlipForConditionalGeneration.from_pretrained(MODELS / "blip").eval()
    fuse(model)
    return model


@pytest.fixture(scope="module")
def pixels():
    return torch.rand(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_images_are_encoded_as_by_blip_itself(blip, fused, pixels):
    layers = fused.vision_model.encoder.layers
    assert all(isinstance(layer.self_attn, ImageAttention) for layer in layers)
    with torch.inference_mode():
        expected, found = blip.vision_model(pixels)[0], fused.vision_model(pixels)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 0.1


def cache() -> EncoderDecoderCache:
    return EncoderDecoderCache(DynamicCache(), DynamicCache())


def test_captions_see_their_own_image_as_in_blip_itself(blip, fused, pixels):
    words = torch.randint(
        6, 180, (3, IMAGES * CANDIDATES), generator=torch.Generator().manual_seed(0)
    )
    one, other = cache(), cache()
    with torch.inference_mode():
        states = blip.vision_model(pixels)[0]
        repeated = states.repeat_interleave(CANDIDATES, dim=0)
        for token in words:  # step by step, so that the later ones read from the cache
            ids = token[:, None]
            expected = blip.text_decoder(
                ids, encoder_hidden_states=repeated, past_key_values=one, use_cache=True
            ).logits
            found = fused.text_decoder(
                ids, encoder_hidden_states=states, past_key_values=other, use_cache=True
            ).logits
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    # The images differ, so that a caption with another one's image would be seen.
    assert (expected[0] - expected[CANDIDATES]).abs().max() > 0.01


def test_an_image_is_kept_once_for_all_its_captions(fused, pixels):
    kept = cache()
    ids = torch.full((IMAGES * CANDIDATES, 1), 5)
    with torch.inference_mode():
        states = fused.vision_model(pixels)[0]
        for _ in range(2):
            fused.text_decoder(
                ids, encoder_hidden_states=states, past_key_values=kept, use_cache=True
            )
    for layer in fused.text_decoder.bert.encoder.layer:
        assert isinstance(layer.crossattention.self, SharedCrossAttention)
    heads = fused.config.text_config.num_attention_heads
    for layer in kept.cross_attention_cache.layers:
        assert layer.keys.shape[:3] == (IMAGES, heads, states.shape[1])
    for layer in kept.self_attention_cache.layers:
        assert layer.keys.shape[:3] == (IMAGES * CANDIDATES, heads, 2)
