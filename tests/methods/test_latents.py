"""Methods that move latents: GIF, DistDiff and feedback, against formulas by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sgid.methods import distdiff, feedback, gif
from sgid.methods.probe import Probe


def test_gifs_score_by_hand():
    before, after = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.9, 0.1]])
    features, partner = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1)) - np.log(2)
    low, high = 1 / (1 + np.e), np.e / (1 + np.e)
    diversity = low * np.log(low / 0.5) + high * np.log(high / 0.5)
    for label, p in ((0, 0.9), (1, 0.1)):
        found = gif.score(before, after, torch.tensor([label]), features, partner)
        assert float(found[0]) == pytest.approx(entropy + p + diversity, abs=1e-6)


def test_a_sign_step_is_clamped_after_it():
    x = torch.tensor([0.75, 0.5, -1.7, 0.3])
    gradient = torch.tensor([3.0, -0.01, 1.0, 0.0])
    found = gif.sign_step(x, gradient, step=0.1, bound=0.8)
    torch.testing.assert_close(found, torch.tensor([0.8, 0.4, -0.8, 0.3]))


def test_moves_are_by_channel_and_drawn_by_seed():
    latents = torch.ones(2, 4, 3, 3)
    z, b = gif.draw_affine(latents, [5, 6], "gif")
    assert z.shape == b.shape == (2, 4, 1, 1) and ((z >= 0) & (z < 1)).all()
    alone = gif.draw_affine(latents[1:], [6], "gif")
    torch.testing.assert_close(torch.stack(alone)[:, 0], torch.stack([z[1], b[1]]))
    torch.testing.assert_close(gif.moved(2 * latents, z, b), (2 * (1 + z) + b).expand(2, 4, 3, 3))


def test_distdiffs_energy_by_hand():
    feature = torch.tensor([[1.0, 0.0]])
    mean = torch.tensor([[0.0, 1.0]])
    local = torch.tensor([[[0.6, 0.8], [-1.0, 0.0], [0.0, -1.0]]])
    expected = 2**0.5 + (0.4**2 + 0.8**2) ** 0.5
    assert float(distdiff.energy(feature, mean, local)[0]) == pytest.approx(expected)


def test_a_step_down_the_gradient_is_clamped():
    found = distdiff.bounded_step(
        torch.tensor([0.1, 0.1, 0.0]), torch.tensor([0.01, 1.0, -1.0]), rho=10, bound=0.2
    )
    torch.testing.assert_close(found, torch.tensor([0.0, -0.2, 0.2]))


def test_local_centres_are_means_of_clusters():
    angles = np.array([0.0, 0.1, 1.5, 1.6, 3.0])
    features = np.stack([np.cos(angles), np.sin(angles)], 1)
    found = distdiff.local_centres(features, 3)
    middles = np.array([0.05, 1.55, 3.0])
    expected = np.stack([np.cos(middles), np.sin(middles)], 1)
    np.testing.assert_allclose(sorted(found.tolist()), sorted(expected.tolist()), atol=1e-9)
    assert len(distdiff.local_centres(features[:1], 3)) == 1


def test_moves_have_a_share_of_the_latents_length():
    latents, gradient = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    found = feedback.along(latents, gradient, scale=0.03) - latents
    lengths = latents.flatten(1).norm(dim=1)
    torch.testing.assert_close(found.flatten(1).norm(dim=1), 0.03 * lengths)
    cosines = torch.cosine_similarity(found.flatten(1), gradient.flatten(1))
    torch.testing.assert_close(cosines, torch.ones(2))


def state(latents, labels, progress=0.2, steps=10, **more) -> Any:
    """A state whose decoder is linear and whose features are normalised pixels."""
    return SimpleNamespace(
        latents=latents,
        progress=progress,
        steps=steps,
        done=round(progress * steps),
        requests=[SimpleNamespace(label=label, seed=9 + i) for i, label in enumerate(labels)],
        decode=lambda x: x,
        go_on=lambda x, rows, ahead: x,
        features=lambda x: torch.nn.functional.normalize(x.mean((2, 3)), dim=1),
        **more,
    )


def folder_with(tmp_path, weight, scale=5.0):
    classes, width = weight.shape
    Probe(
        weight, np.zeros(classes), np.asarray(1.0), weight, weight, np.ones(classes),
        np.asarray(scale),
    ).save(tmp_path)  # fmt: skip
    return tmp_path


def latents_of(*means):
    return torch.stack([torch.tensor(mean)[:, None, None].expand(-1, 2, 2) for mean in means])


def test_feedback_raises_the_entropy_at_every_nth_step(tmp_path):
    weight = np.eye(3) * 4
    folder = folder_with(tmp_path, weight)
    given = state(latents_of([1.0, 0.2, 0.1], [0.1, 0.9, 0.3]), [0, 1], progress=0.5)
    options: Any = {"criterion": "entropy", "scale": 0.03, "every": 5}

    def entropy(x):
        logits = given.features(x) @ torch.tensor(weight, dtype=torch.float32).T
        return gif.entropy(logits.softmax(1))

    found = feedback.uncertain(given, folder, **options)
    assert found is not None and (entropy(found) > entropy(given.latents)).all()
    one = feedback.uncertain(given, folder, **{**options, "at_once": 1})
    torch.testing.assert_close(one, found)
    harder = feedback.uncertain(given, folder, **{**options, "criterion": "loss"})
    for row, label in enumerate((0, 1)):
        before, after = (
            (given.features(x) @ torch.tensor(weight, dtype=torch.float32).T)
            .softmax(1)[row, label] for x in (given.latents, harder)
        )  # fmt: skip
        assert after < before
    given.done = 4
    assert feedback.uncertain(given, folder, **options) is None
    given.done = given.steps
    assert feedback.uncertain(given, folder, **options) is None
    with pytest.raises(ValueError, match="criterion=guess: unknown; one of entropy, loss"):
        feedback.uncertain(given, folder, **{**options, "criterion": "guess"})


def test_distdiff_lowers_the_energy_once(tmp_path):
    means = np.array([[0, 1.0, 0], [0, 0, 1.0]])
    np.savez(tmp_path / distdiff.FILE, means=means, local=means[:, None])
    given = state(latents_of([1.0, 0.2, 0.1], [0.5, 0.4, 0.3]), [0, 1])
    options: Any = {"left": 0.8, "ahead": 2, "rho": 0.1, "bound": 0.2}
    found = distdiff.near_prototypes(given, tmp_path, **options)
    tensors = [torch.tensor(one, dtype=torch.float32) for one in (means, means[:, None])]
    before, after = (distdiff.energy(given.features(x), *tensors) for x in (given.latents, found))
    assert (after < before).all()
    given.done = 3
    assert distdiff.near_prototypes(given, tmp_path, **options) is None


def test_gif_moves_the_last_latents_alone(tmp_path):
    folder = folder_with(tmp_path, np.eye(3))
    given = state(latents_of([1.0, 0.2, 0.1], [0.1, 0.9, 0.3]), [0, 1], progress=1.0)
    options: Any = {"bound": 0.8, "step": 0.1}
    found = gif.informative(given, folder, **options)
    z, b = gif.draw_affine(given.latents, [9, 10], "gif")
    texts = torch.eye(3)
    before = torch.softmax(5 * given.features(given.latents) @ texts.T, 1)
    partner = given.features(
        gif.moved(given.latents, *gif.draw_affine(given.latents, [9, 10], "partner"))
    )

    def score(z, b):
        features = given.features(gif.moved(given.latents, z, b))
        after = torch.softmax(5 * features @ texts.T, 1)
        return gif.score(before, after, torch.tensor([0, 1]), features, partner)

    # Each number's sign by finite differences.
    expected = []
    for which in range(2):
        stepped = [z, b][which].clone()
        for place in np.ndindex(2, 3):
            ends = []
            for way in (1e-3, -1e-3):
                both = [z.clone(), b.clone()]
                both[which][(*place, 0, 0)] += way
                ends.append(score(*both)[place[0]])
            stepped[(*place, 0, 0)] += 0.1 * torch.sign(ends[0] - ends[1])
        expected.append(stepped.clamp(-0.8, 0.8))
    torch.testing.assert_close(found, gif.moved(given.latents, *expected))
    given.progress = 0.9
    assert gif.informative(given, folder, **options) is None
