"""The batched Stable Diffusion engine: many sources, prompts, guidance scales and seeds in one
batch.

It takes the parts of a Stable Diffusion pipeline and runs its own loop over them. Each image equals
what diffusers' own pipeline gives for it alone: its noise comes from its own generator, its
guidance scale is its own, and the unconditional half is left out where guidance is 1 or less.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

from sgid.generation.adapters import Concepts, LoadedConcepts
from sgid.generation.autoencoder import Autoencoder
from sgid.generation.cache import ConditioningCache
from sgid.generation.denoising import Conditions, Denoiser, PromptEmbedding
from sgid.generation.engine import Drawn, redrawn
from sgid.generation.hooks import LatentState
from sgid.generation.inversion import invert
from sgid.generation.memory import goes_in_turns, put_aside, say_mode, take_turns
from sgid.models.conditioning import EDITOR
from sgid.models.diffusers import load, load_controlnet
from sgid.records import Adapter, Generated, Request
from sgid.runtime.batching import adaptive_batcher

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from sgid.generation.image_prompt import ImageEmbedding


SERVED = (
    *(f"StableDiffusion{size}{task}Pipeline" for size in ("", "XL") for task in ("", "Img2Img")),
    EDITOR,
)
"""The pipelines that this loop can stand in for: Stable Diffusion 1, 2, XL, turbo ones, and
InstructPix2Pix."""


class Engine(Protocol):
    """Draws images."""

    def generate(
        self, requests: Sequence[Request], hook: Callable[[LatentState], Any] | None = None
    ) -> Iterator[Generated]:
        """One image per request, in any order; `hook` may change the latents of a batch."""
        ...


@final
class StableDiffusionEngine:
    """Stable Diffusion 1.x, 2.x and XL, text-to-image and img2img over mixed batches, with image
    prompts and along edges; and InstructPix2Pix, which edits images.

    Args:
        folder: a diffusers pipeline, one of `SERVED`.
        steps: denoising steps at strength 1; `int(steps * strength)` of them are run.
        scheduler: name of a diffusers scheduler class, which takes over the settings of the
            folder's own; or "own" for that one itself.
        resolution: side in pixels of images drawn from text alone.
        batch_size: images per batch; halved, for good, when the device runs out of memory. "auto"
            finds it: see `sgid.runtime.batching`.
        compile: mode of `torch.compile` for the UNet, or `None` for none.
        guidance_interval, deep_cache, tiny_vae: trade exactness for speed, each off as it is; see
            `sgid.generation.acceleration`.
        memory: a mode of `sgid.generation.memory`.
        lora: what is added to the weights, for all images.
        checkpoint: the weights in one file, where `folder` has the configs alone.
        ip_adapter, image_encoder: the file of an IP-Adapter, and the folder of its image encoder,
            for requests with image prompts.
        controlnet: the folder of a ControlNet, for requests with edges.
        remembered: where the sizes that "auto" finds are written down, or `None`.

    Raises:
        ValueError: when the folder holds another kind of pipeline.
    """

    def __init__(
        self,
        folder: Path,
        *,
        steps: int,
        scheduler: str,
        resolution: int,
        batch_size: int | str,
        device: torch.device,
        dtype: torch.dtype,
        compile: str | None = None,
        guidance_interval: Sequence[float] = (0.0, 1.0),
        deep_cache: int = 1,
        tiny_vae: str | None = None,
        memory: str | None = None,
        lora: Sequence[Adapter] = (),
        checkpoint: Path | None = None,
        ip_adapter: Path | None = None,
        image_encoder: Path | None = None,
        controlnet: Path | None = None,
        remembered: Path | None = None,
    ) -> None:
        import diffusers
        import torch

        in_turns = goes_in_turns(memory, device)
        pipe = load(
            folder, scheduler=scheduler, device=torch.device("cpu") if in_turns else device,
            dtype=dtype, lora=lora, checkpoint=checkpoint,
        )  # fmt: skip
        if why := _not_served(pipe):
            raise ValueError(
                f"models.generator.weights: {folder} {why}; this engine draws with "
                f"{', '.join(SERVED)}. Take models=any, which draws with whatever diffusers can"
            )
        name = type(pipe).__name__
        # Not AutoPipelineForImage2Image, which imports every pipeline there is.
        own = name if "Img2Img" in name else name.replace("Pipeline", "Img2ImgPipeline")
        self.edits = name == EDITOR
        if self.edits:
            own = "StableDiffusionImg2ImgPipeline"
        self.pipe: Any = getattr(diffusers, own).from_pipe(pipe, dtype=dtype)
        say_mode(memory, device)
        if in_turns:
            take_turns(self.pipe, device)
        is_xl = "XL" in name
        upcast = is_xl and pipe.vae.config.force_upcast and dtype != torch.float32
        tiny = Path(tiny_vae).expanduser() if tiny_vae else None
        self.autoencoder = Autoencoder(
            self.pipe, dtype=dtype, upcast=upcast, tiny=tiny, memory=memory
        )
        self.image_prompts = None
        if ip_adapter is not None:
            from sgid.generation.image_prompt import ImagePrompts

            assert image_encoder is not None, "an IP-Adapter has an image encoder"
            self.image_prompts = ImagePrompts(self.pipe, ip_adapter, image_encoder)
        self.stopped = threading.Event()
        self.denoise = Denoiser(
            self.pipe,
            compile=compile,
            guidance_interval=guidance_interval,
            deep_cache=deep_cache,
            stop=self.stopped.is_set,
            controlnet=controlnet and load_controlnet(controlnet, device=device, dtype=dtype),
        )
        self.latent_side = resolution // self.pipe.vae_scale_factor
        further = "".join(f", {one}" for one in (ip_adapter, controlnet) if one)
        self.batches = adaptive_batcher(
            batch_size, device=device, latent_side=self.latent_side,
            name=f"{checkpoint or folder}, {dtype}, {resolution} px, compile={compile}, "
            f"deep_cache={deep_cache}" + (f", memory={memory}" if memory else "") + further,
            remembered=remembered,
        )  # fmt: skip
        self.folder = checkpoint or folder
        self.steps = steps
        self.resolution = resolution
        self.device = device
        self.dtype = dtype
        # One at a time, so that no image hangs on which others are drawn again.
        self.in_float32 = partial(
            StableDiffusionEngine, folder,
            scheduler=scheduler, resolution=resolution, batch_size=1, device=device,
            dtype=torch.float32, guidance_interval=guidance_interval, deep_cache=deep_cache,
            tiny_vae=tiny_vae, memory=memory, lora=lora, checkpoint=checkpoint,
            ip_adapter=ip_adapter, image_encoder=image_encoder, controlnet=controlnet,
        )  # fmt: skip
        self.concepts = LoadedConcepts(self.pipe)
        self.known = ConditioningCache(self.pipe, self.autoencoder)

    def generate(
        self, requests: Sequence[Request], hook: Callable[[LatentState], Any] | None = None
    ) -> Iterator[Generated]:
        """One image per request; requests that can share a batch do.

        Those that are not finite or all black come last: see `sgid.generation.engine`.
        """
        return redrawn(
            self.draw(requests, hook),
            asked=len(requests),
            dtype=self.dtype,
            exactly=lambda some: self.in_float32(steps=self.steps).draw(some, hook),
            weights=self.folder,
        )

    def draw(
        self, requests: Sequence[Request], hook: Callable[[LatentState], Any] | None = None
    ) -> Drawn:
        """Generate as `generate` does, but draw nothing a second time."""
        self.stopped.clear()
        # Batches at work share the weights, so that those of other ones have to wait.
        alike: dict[tuple[Concepts, bool], list[Request]] = {}
        for one in requests:
            self._require(one)
            prompted = one.image_prompt is not None
            alike.setdefault(((one.tokens, one.adapters), prompted), []).append(one)
        try:
            for (concepts, prompted), some in alike.items():
                self._use_image_prompts(False)  # LoRAs are merged into the UNet as it is
                self.concepts.use(concepts)
                self._use_image_prompts(prompted)
                yield from self._draw_with(concepts, some, hook)
        finally:
            self._use_image_prompts(False)

    def _use_image_prompts(self, wanted: bool) -> None:
        if self.image_prompts is not None:
            self.image_prompts.use(wanted)

    def _require(self, request: Request) -> None:
        """Raise a `ValueError` for a request that the models of this engine cannot draw."""
        told = f"aug={request.method}"
        if request.image_prompt is not None and self.image_prompts is None:
            raise ValueError(f"{told} has image prompts; give models.generator.ip_adapter=FILE")
        if request.edges is not None and self.denoise.controlnet is None:
            raise ValueError(f"{told} draws along edges; give models.generator.controlnet=FOLDER")
        if self.edits != (request.image_guidance_scale is not None):
            raise ValueError(
                f"{told} and {self.folder}: methods with image_guidance, and they alone, edit "
                "images by an InstructPix2Pix (models=instruct_pix2pix)"
            )
        if self.edits and (request.init_image is None or request.strength < 1):
            raise ValueError(
                f"{told}: {self.folder} edits an image, from noise alone: take from_image: true "
                "and a noise rate of 1"
            )

    def _draw_with(
        self,
        concepts: Concepts,
        requests: Sequence[Request],
        hook: Callable[[LatentState], Any] | None,
    ) -> Drawn:
        """Draw requests with the tokens and LoRAs that are loaded."""
        prompts = [one.prompt for one in requests]
        prompts += [one.negative_prompt for one in requests if one.negative_prompt]
        prompts += [one.later.prompt for one in requests if one.later]
        prompts += [one.blend.prompt for one in requests if one.blend]
        texts = self.known.texts(prompts, concepts=concepts, batches=self.batches)
        posteriors = self.known.posteriors(
            [one.init_image for one in requests if one.init_image], batches=self.batches
        )
        if self.image_prompts is not None:
            pictures = [one.image_prompt.image for one in requests if one.image_prompt]
            embeddings = self.known.image_embeddings(
                pictures, self.image_prompts, batches=self.batches
            )
        else:
            embeddings = {}
        with lanes(
            len(requests) / self.batches.size,
            device=self.device,
            latent_side=self.latent_side,
            stop=self.stopped.set,
        ) as (begin, ahead):
            yield from self.batches.run(
                requests,
                lambda batch: begin(
                    partial(self._draw, batch, texts, posteriors, embeddings, hook)
                ),
                alike=partial(_can_share_a_batch, steps=self.steps),
                ahead=ahead,
            )
        put_aside(self.pipe)

    def _draw(
        self,
        batch: Sequence[Request],
        texts: Mapping[str | None, PromptEmbedding],
        posteriors: Mapping[int, torch.Tensor],
        embeddings: Mapping[int, ImageEmbedding],
        hook: Callable[[LatentState], Any] | None,
    ) -> Wait:
        """Begin to draw requests that can share a batch."""
        import torch

        first = batch[0]
        generators = [torch.Generator("cpu").manual_seed(request.seed) for request in batch]

        def after_step(
            latents: torch.Tensor,
            done: int,
            steps: int,
            predict: Callable[[], torch.Tensor],
            go_on: Callable[..., torch.Tensor],
        ) -> torch.Tensor:
            assert hook is not None
            state = LatentState(
                latents, done / steps, steps, batch, predict, self.autoencoder.pixels, go_on
            )
            changed = hook(state)
            return latents if changed is None else changed

        # A hook may take gradients, which tensors of the inference mode refuse for ever.
        with torch.no_grad() if hook else torch.inference_mode():
            scheduler, timesteps = self.denoise.schedule(
                self.steps, first.strength if first.init_image else None
            )
            given = self._conditions(batch, posteriors, embeddings)
            if first.init_image and not self.edits:
                start = [posteriors[id(request.init_image)] for request in batch]
                latents = self.autoencoder.sample(start, generators)
                noise = self._noise(latents.shape, generators)
                latents = scheduler.add_noise(latents, noise, timesteps[:1].repeat(len(batch)))
            else:
                shape = (len(batch), self.pipe.vae.config.latent_channels, *self._sides(first))
                latents = self._noise(shape, generators)
                if first.start is not None:
                    latents = self._tensor([one.start for one in batch])
                latents = latents * scheduler.init_noise_sigma
            later, blend = None, None
            if first.later is not None:
                later = first.later.share, [texts[one.later.prompt] for one in batch if one.later]
            if first.blend is not None:
                mask = self._tensor([one.blend.mask for one in batch if one.blend])[:, None]
                mask = torch.nn.functional.adaptive_avg_pool2d(mask, latents.shape[-2:])
                blend = mask, [texts[one.blend.prompt] for one in batch if one.blend]
            latents = self.denoise(
                latents, timesteps, scheduler,
                texts=[texts[request.prompt] for request in batch],
                negatives=[texts[request.negative_prompt or None] for request in batch],
                scales=[one.guidance_scale if _is_guided(one) else 1.0 for one in batch],
                generators=generators,
                later=later,
                blend=blend,
                given=given,
                after_step=after_step if hook else None,
            )  # fmt: skip
            return self.autoencoder.decode(latents)

    def _conditions(
        self,
        batch: Sequence[Request],
        posteriors: Mapping[int, torch.Tensor],
        embeddings: Mapping[int, ImageEmbedding],
    ) -> Conditions:
        """Conditions beside their texts of requests that can share a batch."""
        import numpy as np

        prompts = [one.image_prompt for one in batch if one.image_prompt]
        edges = [one.edges for one in batch if one.edges]
        image_prompts, control, edited = None, None, None
        if prompts:
            some = [embeddings[id(one.image)] for one in prompts]
            image_prompts = some, [one.scale for one in prompts]
        if edges:
            levels = [np.asarray(one.image.convert("RGB"), np.float32) / 255 for one in edges]
            pixels = self._tensor([one.transpose(2, 0, 1) for one in levels])  # (B, 3, H, W)
            control = pixels, [one.scale for one in edges]
        if self.edits:
            images = [posteriors[id(one.init_image)] for one in batch]
            edited = (
                self.autoencoder.conditions(images),
                [one.image_guidance_scale or 0.0 for one in batch],
            )
        return Conditions(image_prompts, control, edited)

    def _tensor(self, arrays: Sequence[Any]) -> torch.Tensor:
        """(B, ...) on the device."""
        import numpy as np
        import torch

        return torch.from_numpy(np.stack(arrays)).to(self.device, self.dtype)

    def invert(
        self, images: Sequence[Image], prompts: Sequence[str], *, steps: int
    ) -> torch.Tensor:
        """The noise (B, C, h, w) that images come from, by the model as it is: without tokens,
        LoRAs or image prompts of what was drawn before. See `sgid.generation.inversion.invert`.
        """
        self._use_image_prompts(False)
        self.concepts.use((None, ()))
        pairs = list(zip(images, prompts, strict=True))

        def start(some: Sequence[tuple[Image, str]]) -> Callable[[], Sequence[torch.Tensor]]:
            pictures, texts = zip(*some, strict=True)
            made = invert(self.pipe, self.autoencoder, pictures, texts, steps=steps)
            return lambda: list(made)

        import torch

        return torch.stack([made for _, made in self.batches.child().run(pairs, start)])

    def _sides(self, request: Request) -> tuple[int, int]:
        """Height and width of the latents of what is drawn from noise: its edges', or a square."""
        if (like := request.init_image or (request.edges and request.edges.image)) is not None:
            scale = self.pipe.vae_scale_factor
            return like.height // scale, like.width // scale
        side, rest = divmod(self.resolution, self.pipe.vae_scale_factor)
        if rest:
            raise ValueError(
                f"models.generator.resolution={self.resolution}: must be a multiple of "
                f"{self.pipe.vae_scale_factor} for this model"
            )
        return side, side

    def _noise(self, shape: tuple[int, ...], generators: list[torch.Generator]) -> torch.Tensor:
        """(B, ...), row i drawn from generator i on the CPU, so that devices agree."""
        from diffusers.utils.torch_utils import randn_tensor

        return randn_tensor(shape, generator=generators, device=self.device, dtype=self.dtype)


def _not_served(pipe: Any) -> str | None:
    """Reason why this loop would not equal the pipeline itself, or `None`."""
    if (name := type(pipe).__name__) not in SERVED:
        return f"holds a {name}"
    if pipe.unet.config.time_cond_proj_dim is not None:
        return "has a UNet that is told its guidance scale"
    if pipe.config.get("requires_aesthetics_score"):
        return "is a refiner, which is told an aesthetic score"
    return None


def _can_share_a_batch(request: Request, *, steps: int) -> Hashable:
    """Requests of one size, as many steps to run, guidance all above 1 or all not, and the like."""
    size = request.init_image.size if request.init_image else None
    run = min(int(steps * request.strength), steps) if request.init_image else steps
    further = request.later and request.later.share, request.blend is None, request.start is None
    edges = request.edges and request.edges.image.size
    return size, run, _is_guided(request), further, edges, request.image_prompt is None


def _is_guided(request: Request) -> bool:
    """Whether there is guidance; of an edit, diffusers has it if that towards the image is too."""
    towards = request.image_guidance_scale
    return request.guidance_scale > 1 and (towards is None or towards >= 1)


SMALL = 32
"""Side of the latents up to which a CPU draws several batches at once."""

Wait = Callable[[], Sequence[Any]]


Draw = Callable[[], Wait]
"""Begins a batch, and gives what waits for its results."""


@contextmanager
def lanes(
    batches: float, *, device: torch.device, latent_side: int, stop: Callable[[], None]
) -> Iterator[tuple[Callable[[Draw], Wait], int]]:
    """Function that begins a batch, and the number of batches to begin ahead.

    A GPU goes on with the next batch while the results of the last are fetched. A CPU works on as
    many batches at once as it has threads, each on one of them: small networks gain little from
    more. Large ones do, and several batches of theirs may not fit in the memory.

    `stop` is called when no more results are wanted, so that batches at work give up.
    """
    import torch

    threads = torch.get_num_threads()
    count = min(threads, math.ceil(batches))
    if device.type != "cpu" or count < 2 or latent_side > SMALL:
        yield lambda draw: draw(), 1 if device.type == "cuda" else 0
        return
    pool = ThreadPoolExecutor(count, "lane", lambda: torch.set_num_threads(threads // count))
    try:
        yield lambda draw: pool.submit(lambda: draw()()).result, count
    finally:
        stop()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # what new threads begin with
