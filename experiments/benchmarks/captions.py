"""Speed of captioning and scoring, against one image per call.

    python -m experiments.benchmarks.captions
    python -m experiments.benchmarks.captions --size real --device cuda

Each image gets five captions, one greedy and four nucleus samples, and their similarity to it:

- `one image per call`: transformers' BLIP and open_clip's CLIP in a loop, as published
  augmentation code has it; the four samples are one call;
- `sgid`: `describe`, as the augment stage calls it, 256 images at a time.

Greedy captions and similarities of the two are compared, in float32. `--size real` has BLIP large
(384 px), CLIP ViT-B/32 and images of 512 px. Its weights are random, so no caption ends by itself:
all are 20 tokens long in both arms.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL.Image import Image

from experiments.benchmarks.busy import Busy
from experiments.benchmarks.common import Target, arguments, bars, finish, paired, rates, ratio
from experiments.benchmarks.random_models import random_blip, random_clip
from sgid.config.compose import compose
from sgid.config.schema import ModelsConfig
from sgid.records import Described, Sample

ALONE, OURS = "one image per call", "sgid"
SHARD = 256
REACH = {("tiny", "cpu"): 6, ("real", "cuda"): 10}
SIZES = ("tiny", "real")


def main() -> None:
    given = arguments(__doc__, images=256, alone=16, device="cpu", size="tiny", dtype="auto")
    if given.size not in SIZES:
        raise SystemExit(f"--size {given.size}: unknown; one of {', '.join(SIZES)}")
    import torch

    from sgid.runtime.device import pick_device, pick_dtype
    from sgid.runtime.terminal import quiet_generation

    quiet_generation()
    device = pick_device(given.device)
    dtype = pick_dtype(given.dtype, device)
    with TemporaryDirectory() as folder:
        config, blip, clip = prepare(given.size, Path(folder))
        samples = pictures(given.images, 512 if given.size == "real" else None)
        few = samples[: given.alone]

        models = (config, blip, clip, device)
        exact = few[:8]
        equal, apart = compare(Loop(*models, torch.float32), ours(*models, torch.float32), exact)

        loop, describe = Loop(*models, dtype), ours(*models, dtype)
        values = paired(
            {
                ALONE: rate(len(few), lambda: [loop(sample.image) for sample in few]),
                OURS: rate(len(samples), lambda: describe(samples)),
            },
            given.rounds,
        )
        wall, busy = share(describe, samples, device)

    targets = [
        Target("greedy captions equal to one image per call", equal, 1, unit="%"),
        Target("largest difference of a similarity", apart * 1e6, 100, False, "millionths"),
    ]
    if reach := REACH.get((given.size, device.type)):
        targets.insert(0, Target(f"images/s against {ALONE}", ratio(values, OURS, ALONE), reach))
    finish(
        "captions" if given.size == "tiny" else f"captions-{given.size}",
        given.out,
        title=f"Captions and similarity: images per second, {given.size} models, {dtype}",
        body=rates(values, ALONE, "images/s")
        + f"\n\n{len(samples)} images described in {wall:.2f} s, BLIP or CLIP at work {busy:.2f} s "
        f"({busy / wall:.0%}).",
        targets=targets,
        figure=bars(values, "images per second"),
        data={"images_per_second": values, "describe": {"wall": wall, "busy": busy}},
    )


@dataclass(frozen=True)
class Describe:
    """`sgid`'s arm: its captioner and scorer, and what they make of samples."""

    captioner: Any
    scorer: Any

    def __call__(self, samples: Sequence[Sample]) -> list[Described]:
        from sgid.methods.describe import describe

        starts = range(0, len(samples), SHARD)
        parts = (samples[start : start + SHARD] for start in starts)
        return [one for part in parts for one in describe(part, self.captioner, self.scorer)]


def ours(config: ModelsConfig, blip: Path, clip: Path, device: Any, dtype: Any) -> Describe:
    """Captioner and scorer with the batch sizes of `config`."""
    from sgid.models.blip import BlipCaptioner
    from sgid.models.clip import OpenClipScorer

    own, place = config.captioner, {"device": device, "dtype": dtype}
    names = ("candidates", "top_p", "max_tokens", "seed", "batch_size")
    captioner = BlipCaptioner(blip, **{name: getattr(own, name) for name in names}, **place)
    return Describe(captioner, OpenClipScorer(clip, batch_size=config.scorer.batch_size, **place))


class Loop:
    """The loop of a careful user of transformers and open_clip, one image at a time."""

    def __init__(self, config: ModelsConfig, blip: Path, clip: Path, device: Any, dtype: Any):
        import open_clip
        from transformers import AutoProcessor, BlipForConditionalGeneration

        self.own = config.captioner
        self.device, self.dtype = device, dtype
        self.processor = AutoProcessor.from_pretrained(blip)
        model: Any = BlipForConditionalGeneration.from_pretrained(blip, dtype=dtype)
        self.blip = model.to(device).eval()
        name = f"local-dir:{clip}"
        loaded: Any = open_clip.create_model_from_pretrained(name)
        clip_model, preprocess = loaded
        self.clip = clip_model.to(device, dtype).eval()
        self.preprocess = preprocess
        self.tokenize: Any = open_clip.get_tokenizer(name)

    def __call__(self, image: Image) -> tuple[list[str], np.ndarray]:
        """The captions, the greedy one first, and their similarities."""
        import torch

        with torch.inference_mode():
            inputs = self.processor(images=image, return_tensors="pt").to(self.device, self.dtype)
            most = {"max_new_tokens": self.own.max_tokens}
            sampled = {"do_sample": True, "top_p": self.own.top_p, "top_k": 0}
            sampled |= {"num_return_sequences": self.own.candidates - 1}
            tokens = [
                *self.blip.generate(**inputs, do_sample=False, **most),
                *self.blip.generate(**inputs, **sampled, **most),
            ]
            captions = self.processor.batch_decode(tokens, skip_special_tokens=True)
            return captions, self.score(image, captions)

    def score(self, image: Image, captions: Sequence[str]) -> np.ndarray:
        """The similarity of each caption."""
        import torch

        with torch.inference_mode():
            pixels = self.preprocess(image)[None].to(self.device, self.dtype)
            vector = self.clip.encode_image(pixels, normalize=True)
            texts = self.tokenize(list(captions)).to(self.device)
            vectors = self.clip.encode_text(texts, normalize=True)
            return (vectors @ vector[0]).float().cpu().numpy()


def compare(loop: Loop, describe: Describe, samples: Sequence[Sample]) -> tuple[float, float]:
    """The share of equal greedy captions, and the largest difference of a similarity."""
    same, apart = [], []
    for sample, described in zip(samples, describe(samples), strict=True):
        (greedy, *_), _ = loop(sample.image)
        same.append(greedy == described.candidates[0])
        scores = loop.score(sample.image, described.candidates)
        apart.append(np.abs(scores - described.scores).max())
    return float(np.mean(same)), float(max(apart))


def rate(images: int, run: Callable[[], object]) -> Callable[[], float]:
    """Images per second of `run`, which has that many, after a first run."""
    run()

    def timed() -> float:
        started = time.perf_counter()
        run()
        return images / (time.perf_counter() - started)

    return timed


def share(describe: Describe, samples: Sequence[Sample], device: Any) -> tuple[float, float]:
    """Seconds that `describe` takes, and those of them in which a model is at work."""
    import torch

    blip, clip = describe.captioner.model, describe.scorer.model
    parts = [(blip.vision_model, "forward"), (blip.text_decoder, "forward")]
    parts += [(clip, "encode_image"), (clip, "encode_text")]
    if device.type == "cuda":
        for owner, name in parts:  # or only the time of its launch would be seen
            setattr(owner, name, _waiting(getattr(owner, name), torch.cuda.synchronize))
    busy = Busy(1)
    with busy.watching(*parts):
        started = time.perf_counter()
        describe(samples)
        wall = time.perf_counter() - started
    return wall, busy.seconds


def _waiting(function: Callable[..., Any], wait: Callable[[], None]) -> Callable[..., Any]:
    @wraps(function)
    def waited(*args: Any, **kwargs: Any) -> Any:
        wait()
        result = function(*args, **kwargs)
        wait()
        return result

    return waited


def pictures(count: int, side: int | None) -> list[Sample]:
    """Bundled images, again and again with other keys, enlarged to `side` if that is given."""
    from sgid.data.sources.bundled import fashion

    listing = fashion().train
    images = listing.images(listing.stamps)
    samples = []
    for i in range(count):
        one = images[i % len(images)]
        image = one.image if side is None else one.image.resize((side, side))
        samples.append(Sample(f"{one.key}-{i}", image, one.label, one.class_name))
    return samples


def prepare(size: str, folder: Path) -> tuple[ModelsConfig, Path, Path]:
    """The models' config, and the folders of BLIP and CLIP: new ones in `folder` for `real`."""
    if size == "tiny":
        config = compose(["models=tiny"]).models
        return (
            config,
            Path(str(config.captioner.weights.path)),
            Path(str(config.scorer.weights.path)),
        )
    config = compose(["models=sd15"]).models
    config.captioner.max_tokens = 20
    return config, random_blip(folder / "blip"), random_clip(folder / "clip")


if __name__ == "__main__":
    main()
