"""What makes the engine fast changes no image: batches at once, what is known, compilation."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from tests.data.writers import picture
from tests.generation.requests import PROMPTS, difference, draw, request, varied


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_at_once_give_the_same_images_and_leave_the_threads_as_they_were(
    make_engine, threads
):
    before = torch.get_num_threads()
    requests = varied() * 2
    requests = [replace(one, described=replace(one.described, key=f"k{i}"))
                for i, one in enumerate(requests)]  # fmt: skip
    expected = draw(make_engine(batch_size=64), requests)
    try:
        torch.set_num_threads(threads)
        images = draw(make_engine(batch_size=2), requests)
        assert torch.get_num_threads() == threads
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == threads
    finally:
        torch.set_num_threads(before)
    assert all(difference(images[name], expected[name]) <= 1 for name in expected)


def test_who_wants_no_more_images_does_not_wait_for_them(make_engine):
    before = torch.get_num_threads()
    engine = make_engine(batch_size=1, steps=200)
    steps = []
    hook = engine.pipe.unet.register_forward_pre_hook(lambda *_: steps.append(1))
    requests = [request(i, init=picture(i, 0, 32), strength=1.0) for i in range(8)]
    try:
        torch.set_num_threads(2)
        drawn = engine.generate(requests)
        next(drawn)
        done = len(steps)
        drawn.close()
    finally:
        torch.set_num_threads(before)
    hook.remove()
    # Two batches were at work, a third was begun: of their 600 steps only those in flight are run.
    assert len(steps) - done < 20


def test_what_is_known_is_not_computed_again(make_engine):
    engine = make_engine(batch_size=3)
    seen: dict[str, list[int]] = {"image": [], "text": []}
    hooks = [
        engine.pipe.vae.encoder.register_forward_pre_hook(
            lambda _, a: seen["image"].append(len(a[0]))
        ),
        engine.pipe.text_encoder.register_forward_pre_hook(
            lambda _, a, k: seen["text"].append(len(a[0] if a else k["input_ids"])),
            with_kwargs=True,
        ),
    ]
    sources = [picture(i, 0, 32) for i in range(4)]
    requests = [request(i, init=sources[i % 4], prompt=PROMPTS[i % 2]) for i in range(8)]
    first = draw(engine, requests)
    assert seen == {"image": [3, 1], "text": [1, 2]}  # the empty prompt, and two others
    # Another noise rate and guidance; the same pixels in other objects, as another run has them.
    again = [
        replace(one, strength=0.9, guidance_scale=2.0, init_image=one.init_image.copy())
        for one in requests
    ]
    others = draw(engine, again)
    assert seen == {"image": [3, 1], "text": [1, 2]}
    assert all(difference(first[name], others[name]) > 0 for name in first)
    engine.known.forget()
    assert all(difference(one, first[name]) == 0 for name, one in draw(engine, requests).items())
    assert seen["image"] == [3, 1, 3, 1]
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("shortcut", [
    {"guidance_interval": (0.3, 0.8)}, {"deep_cache": 2}, {"deep_cache": 3},
])  # fmt: skip
def test_a_shortcut_changes_images_and_neither_batches_nor_order_do(make_engine, shortcut):
    exact = draw(make_engine(), varied())
    fast = draw(make_engine(**shortcut), varied())
    assert max(difference(exact[name], fast[name]) for name in exact) > 1
    other = draw(make_engine(**shortcut, batch_size=3), varied()[::-1])
    assert all(difference(fast[name], other[name]) <= 1 for name in fast)


@pytest.mark.slow  # two minutes of a C++ compiler
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_compiled_it_draws_the_same(make_engine):
    some = [request(i, init=picture(i, 0, 32)) for i in range(2)]
    exact, fast = draw(make_engine(), some), draw(make_engine(compile="default"), some)
    assert all(difference(exact[name], fast[name]) <= 1 for name in exact)
