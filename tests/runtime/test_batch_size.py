"""The batch size that is found is remembered, and on a CPU follows from the latents."""

import json

import pytest
import torch

from sgid.runtime.batching import adaptive_batcher
from tests.runtime.test_batching import Clock


def test_what_was_found_is_remembered_by_device_and_model(tmp_path, monkeypatch):
    path = tmp_path / "new" / "batch_sizes.json"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A GPU")

    def make(name="sd", size="auto"):
        device = torch.device("cuda")
        return adaptive_batcher(size, device=device, latent_side=64, name=name, remembered=path)

    first = make()
    assert first.growing
    clock = Clock(monkeypatch, {4: 10, 8: 10})
    list(first.run(range(40), clock.start))
    assert json.loads(path.read_text()) == {"A GPU, sd": 4}
    assert (make().size, make().growing) == (4, False)
    assert make("other").growing
    remembered = make()  # what no longer fits is mended
    remembered._halve(4)
    assert json.loads(path.read_text()) == {"A GPU, sd": 2}
    assert (make(size=7).size, make(size=7).growing) == (7, False)
    path.write_text("{half a fi")
    assert make().growing


@pytest.mark.parametrize(("side", "size"), [(8, 64), (64, 1), (128, 1), (16, 16)])
def test_on_a_cpu_the_size_follows_from_the_latents(side, size):
    device = torch.device("cpu")
    made = adaptive_batcher("auto", device=device, latent_side=side, name="x", remembered=None)
    assert (made.size, made.growing) == (size, False)
