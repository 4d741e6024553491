import numpy as np
import pytest
import torch

from tests.conftest import MODELS

TEXTS = ["a photo of a bag", "ankle boot", "", "a dark coat with long sleeves"]


@pytest.fixture(scope="module")
def scorer(make_scorer):
    return make_scorer()


@pytest.fixture(scope="module")
def pictures(fashion):
    return [sample.image for sample in fashion]


def test_it_is_what_open_clip_gives(scorer, pictures):
    import open_clip
    from safetensors.torch import load_file

    name = f"local-dir:{MODELS / 'clip'}"
    model, preprocess = open_clip.create_model_from_pretrained(name)
    stored = load_file(MODELS / "clip" / "open_clip_model.safetensors")
    assert all(torch.equal(value, stored[key]) for key, value in model.state_dict().items())
    model.eval()
    with torch.no_grad():
        pixels = torch.stack([preprocess(picture) for picture in pictures])
        images = model.encode_image(pixels, normalize=True)
        texts = model.encode_text(open_clip.get_tokenizer(name)(TEXTS), normalize=True)
    np.testing.assert_allclose(scorer.embed_images(pictures), images.numpy(), atol=1e-6)
    np.testing.assert_allclose(scorer.embed_texts(TEXTS), texts.numpy(), atol=1e-6)


def test_unit_vectors_one_per_item(scorer, pictures):
    for vectors in (scorer.embed_images(pictures), scorer.embed_texts(TEXTS)):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert scorer.embed_images(pictures).shape[0] == len(pictures)
    assert np.linalg.matrix_rank(scorer.embed_texts(TEXTS)) == len(TEXTS)


def test_a_vector_does_not_depend_on_its_batch(scorer, make_scorer, pictures):
    images, texts = scorer.embed_images(pictures), scorer.embed_texts(TEXTS)
    for batch_size in (1, 5):
        other = make_scorer(batch_size)
        np.testing.assert_allclose(other.embed_images(pictures[::-1])[::-1], images, atol=1e-6)
        np.testing.assert_allclose(other.embed_texts(TEXTS[::-1])[::-1], texts, atol=1e-6)


def test_nothing_to_embed(scorer):
    assert len(scorer.embed_images([])) == len(scorer.embed_texts([])) == 0


def test_clip_sees_the_pixels_that_its_own_transform_makes(scorer, pictures):
    import open_clip

    _, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{MODELS / 'clip'}")
    images = [*pictures, pictures[0].resize((50, 41)), pictures[1].convert("L")]
    seen = []
    hook = scorer.model.visual.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        scorer.embed_images(images)
    finally:
        hook.remove()
    assert torch.equal(torch.cat(seen), torch.stack([preprocess(image) for image in images]))


@pytest.mark.parametrize("part", ["visual", "transformer"])
def test_out_of_memory_halves_the_batch_for_good(scorer, make_scorer, pictures, part):
    """`transformer` is that of the texts."""
    small, sizes = make_scorer(8), []
    texts = [f"{text} {i}" for text in TEXTS for i in range(3)]

    def small_device(_, given):
        sizes.append(len(given[0]))
        if len(given[0]) > 2:
            torch.empty(2**50)  # the allocator's own error

    getattr(small.model, part).register_forward_pre_hook(small_device)
    for _ in range(2):
        np.testing.assert_allclose(
            small.embed_images(pictures), scorer.embed_images(pictures), atol=1e-6
        )
        np.testing.assert_allclose(small.embed_texts(texts), scorer.embed_texts(texts), atol=1e-6)
    assert sizes[:4] == [8, 4, 2, 2] and set(sizes[3:]) <= {1, 2} and small.batches.size == 2


def test_an_image_that_does_not_fit_alone(make_scorer, pictures):
    small = make_scorer()
    small.model.visual.register_forward_pre_hook(lambda *_: torch.empty(2**50))
    with pytest.raises(ValueError, match=r"one at a time; take models\.scorer\.dtype=float16"):
        small.embed_images(pictures)
