"""Learned concepts: tokens (textual inversion) and LoRAs, from the training images of a run alone.

Textual inversion (Gal et al., 2023) learns the embedding of a new word, here of `vectors` tokens
for each class; a LoRA (Hu et al., 2022) learns a change of low rank to the attention of the UNet
and, where asked, of the text encoder. Both minimise the loss that the generator was trained by:

    || target - unet(sqrt(a_t) x + sqrt(1 - a_t) noise, t, text) ||^2

where the target is the noise, or the velocity of a model that predicts that.

All that is random in a step follows from the seed and the number of the step. A process that was
killed goes on from its last checkpoint, and ends with the same numbers as one that was not.
"""

from __future__ import annotations

import copy
import gc
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from PIL import Image, ImageOps

from sgid.methods.prompts import TOKEN, fields, render
from sgid.models.diffusers import load
from sgid.models.lora import TOKENS, text_encoders, token_name
from sgid.models.tensors import pipeline_shapes
from sgid.models.weights import read_json
from sgid.records import Adapter
from sgid.reproducibility import derive_seed
from sgid.runtime.batching import out_of_memory
from sgid.runtime.files import atomic_path, write_atomic
from sgid.runtime.terminal import progress, quiet_generation

if TYPE_CHECKING:
    import torch

    from sgid.data.image_set import ImageSet

log = logging.getLogger(__name__)

CHECKPOINT = 60.0
"""Seconds of training that a killed process loses at most."""

CACHED = 2 * 2**30
"""Bytes of latents that are kept; those of further images are encoded each time."""

EACH = ("class", "set", "image")
"""Images that a concept is learned from together: of a class, all, or each one alone."""

INDEX = "concepts.json"

UNET = ("to_q", "to_k", "to_v", "to_out.0")
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj")
"""The layers that a LoRA changes: the attention of UNet and text encoder."""

SERVED = ("StableDiffusion", "StableDiffusionXL")


@final
@dataclass(frozen=True, kw_only=True)
class Concepts:
    """A `Preparation` (see `sgid.methods.method`) that learns tokens, LoRAs, or both.

    Args:
        each: one of `EACH`. With `class` each class has a training of its own, with `set` all
            classes share one; tokens are of classes in either case.
        vectors: of the token of a class; 0: no tokens.
        rank: of the LoRA; 0: none.
        text_encoder: whether the LoRA changes the text encoder too.
        templates: prompts with `{token}` or `{label}`; each image of a batch draws one.
        initial: what tokens begin as: `class`, the words of the class, or a word.
        steps, epochs: of each training; one of them is given.
        batch_size: images in a step.
        token_lr, lora_lr: learning rates of AdamW, as they are: not scaled by the batch.
        schedule: `constant`, or `cosine`, down to 0.
        warmup: steps until the learning rate is reached.
        weight_decay: of AdamW.
        snr_gamma: gamma of min-SNR weighting (Hang et al., 2023, eq. 9); `None`: all timesteps
            count alike.
        flip: whether images are turned around with probability 1/2.
        gradient_checkpointing: less memory, for a third more time.

    Raises:
        ValueError: for a value that cannot be.
    """

    each: str = "class"
    vectors: int = 0
    rank: int = 0
    text_encoder: bool = False
    templates: Sequence[str] = ("a photo of a {token}",)
    initial: str = "class"
    steps: int | None = None
    epochs: int | None = None
    batch_size: int = 4
    token_lr: float = 5e-4
    lora_lr: float = 1e-4
    schedule: str = "constant"
    warmup: int = 0
    weight_decay: float = 1e-2
    snr_gamma: float | None = None
    flip: bool = False
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        wrong = []
        if self.each not in EACH:
            wrong.append(f"each={self.each}: must be one of {', '.join(EACH)}")
        if self.each == "image" and self.vectors:
            wrong.append("each=image learns a LoRA alone: take vectors=0")
        if max(self.vectors, self.rank) < 1 or min(self.vectors, self.rank) < 0:
            wrong.append(f"vectors={self.vectors}, rank={self.rank}: one must be above 0")
        if self.text_encoder and not self.rank:
            wrong.append("text_encoder=true: is of a LoRA; give a rank, or take false")
        if (self.steps is None) == (self.epochs is None):
            wrong.append(f"steps={self.steps}, epochs={self.epochs}: give one of them")
        for name in ("steps", "epochs", "batch_size"):
            if (value := getattr(self, name)) is not None and value < 1:
                wrong.append(f"{name}={value}: must be at least 1")
        for name in ("token_lr", "lora_lr"):
            if not getattr(self, name) > 0:
                wrong.append(f"{name}={getattr(self, name)}: must be above 0")
        if self.schedule not in ("constant", "cosine"):
            wrong.append(f"schedule={self.schedule}: must be one of constant, cosine")
        if self.snr_gamma is not None and not self.snr_gamma > 0:
            wrong.append(f"snr_gamma={self.snr_gamma}: must be above 0, or null")
        used = set().union(*map(fields, self.templates))
        if not self.templates or used - {"label", TOKEN}:
            wrong.append(
                f"templates={list(self.templates)}: may have the fields {{token}}, {{label}}"
            )
        elif (TOKEN in used) != bool(self.vectors):
            wrong.append(
                f"templates={list(self.templates)}: {{token}} is for tokens to learn, and "
                f"vectors={self.vectors}"
            )
        if wrong:
            raise ValueError("; ".join(wrong))

    def __call__(
        self, images: ImageSet, phrases: Sequence[str], models: Any, folder: Path, *, seed: int
    ) -> None:
        """Learn what is not there yet, into `folder`: `lora/*.safetensors` and `TOKENS`."""
        trainings = self.trainings(images)
        total = sum(one.steps for one in trainings)
        todo = [one for one in trainings if not one.done(folder, self)]
        done = total - sum(one.steps for one in todo)
        if todo:
            quiet_generation()
            try:
                learner = Learner(self, images, phrases, models, seed=seed)
                with progress("concepts", total, "steps", done=done) as bar:
                    for one in todo:
                        bar.set_postfix_str(one.shown(phrases), refresh=False)
                        learner.learn(one, folder, bar.update)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                raise ValueError(f"memory runs out while concepts are learned; {LESS}") from error
            finally:
                learner = None
                _free(models.device)
        if self.vectors:
            _join([one.tokens(folder) for one in trainings], folder / TOKENS)
        write_atomic(folder / INDEX, json.dumps({"each": self.each}).encode())

    def trainings(self, images: ImageSet) -> list[Training]:
        """The trainings, one for each class, image, or the whole set, in order."""
        rows: dict[int, list[int]] = {label: [] for label in range(len(images.class_names))}
        for row, label in enumerate(images.labels):
            rows[label].append(row)

        def training(name: str, some: Sequence[int], label: int | None) -> Training:
            steps = self.steps
            if steps is None:
                assert self.epochs is not None
                steps = self.epochs * math.ceil(len(some) / self.batch_size)
            of = list(rows) if label is None else [label]
            return Training(name, tuple(some), label, tuple(of), steps)

        if self.each == "set":
            return [training("set", range(len(images)), None)]
        if self.each == "class":
            return [training(f"class-{label}", some, label) for label, some in rows.items()]
        return [
            training(image_name(key), [row], images.labels[row])
            for row, key in enumerate(images.keys)
        ]

    def check(self, images: ImageSet, phrases: Sequence[str], models: Any, *, option: str) -> str:
        """A line that says how many concepts are learned, and with how much memory.

        Raises:
            ValueError: for classes without images, a generator of another kind, or too little
                memory.
        """
        counts = np.bincount(np.asarray(images.labels), minlength=len(images.class_names))
        if self.each != "image" and not counts.all():
            empty = [phrases[label] for label in np.flatnonzero(counts == 0).tolist()]
            more = f" and {len(empty) - 3:,} more" if len(empty) > 3 else ""
            raise ValueError(
                f"{option} learns every class from its own training images, and "
                f"{', '.join(empty[:3])}{more} have none; raise dataset.shots or dataset.fraction, "
                "lower dataset.imbalance, or leave these classes out"
            )
        weights = models.weights["models.generator"]
        name = str((read_json(weights.folder / "model_index.json") or {}).get("_class_name"))
        if name not in [f"{kind}{task}Pipeline" for kind in SERVED for task in ("", "Img2Img")]:
            raise ValueError(
                f"{option} learns for Stable Diffusion 1, 2 and XL; models.generator.weights is a "
                f"{name}"
            )
        quiet_generation()
        resolution = models.settings.generator.resolution
        needed = memory_needed(
            self, weights.folder, resolution, _dtype(models.device), weights.file
        )
        free = free_memory(models.device)
        trainings = self.trainings(images)
        what = f"{len(trainings):,} concepts, {sum(one.steps for one in trainings):,} steps in all"
        said = f"with about {needed / 2**30:.2g} GiB of memory, of {free / 2**30:.3g} GiB free"
        if needed > free:
            raise ValueError(f"{option} learns {what}, {said} on {models.device}; {LESS}")
        return f"learns {what}, {said}"


LESS = (
    "take gradient_checkpointing=true or a smaller batch_size in the `prepare` of the method, a "
    "smaller models.generator.resolution, or another trainer.device"
)


@final
@dataclass(frozen=True)
class Training:
    """One training: the rows of its images, and the classes whose tokens it learns.

    `label` is the class that a LoRA is of, `None` for one of all.
    """

    name: str
    rows: tuple[int, ...]
    label: int | None
    labels: tuple[int, ...]
    steps: int

    def lora(self, folder: Path) -> Path:
        return folder / "lora" / f"{self.name}.safetensors"

    def tokens(self, folder: Path) -> Path:
        return folder / "tokens" / f"{self.name}.safetensors"

    def checkpoint(self, folder: Path) -> Path:
        return folder / "checkpoints" / f"{self.name}.pt"

    def done(self, folder: Path, concepts: Concepts) -> bool:
        tokens = not concepts.vectors or self.tokens(folder).is_file()
        return tokens and (not concepts.rank or self.lora(folder).is_file())

    def shown(self, phrases: Sequence[str]) -> str:
        return self.name if self.label is None else phrases[self.label]


NAME = "concept"
"""The adapter that is being learned."""


@final
class Learner:
    """The generator of a run, and the training of concepts in it, one after the other."""

    def __init__(
        self,
        concepts: Concepts,
        images: ImageSet,
        phrases: Sequence[str],
        models: Any,
        *,
        seed: int,
    ) -> None:
        import torch
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

        self.concepts = concepts
        self.images = images
        self.phrases = phrases
        self.seed = seed
        self.device: torch.device = models.device
        self.dtype = _dtype(models.device)
        self.resolution: int = models.settings.generator.resolution
        weights = models.weights["models.generator"]
        self.pipe = load(
            weights.folder, scheduler="own", device=self.device, dtype=self.dtype,
            lora=models.lora, checkpoint=weights.file,
        )  # fmt: skip
        encoders = [encoder for _, encoder, _ in text_encoders(self.pipe)]
        for part in (self.pipe.unet, self.pipe.vae, *encoders):
            part.requires_grad_(False)
        self.pipe.vae.to(torch.float32)  # once for each image, and that of XL overflows otherwise
        if concepts.gradient_checkpointing:
            self.pipe.unet.enable_gradient_checkpointing()
            self.pipe.unet.train()
        self.scheduler: Any = DDPMScheduler.from_config(self.pipe.scheduler.config)
        self._posteriors: dict[tuple[int, bool], torch.Tensor] = {}
        self._texts: dict[str, dict[str, Any]] = {}
        self._order: Callable[[str, int, int], list[int]] = lru_cache(2)(self._shuffled)

    def learn(self, training: Training, folder: Path, advance: Callable[[int], Any]) -> None:
        """Leave the files of a training in `folder`; `advance` is told of the steps done."""
        import torch

        concepts, checkpoint = self.concepts, training.checkpoint(folder)
        with self._concept(training) as parameters:
            groups = [
                {"params": [one for name, one in parameters.items() if (ROWS in name) == rows]}
                for rows in (True, False)
            ]
            rates = [concepts.token_lr, concepts.lora_lr]
            pairs = [pair for pair in zip(groups, rates, strict=True) if pair[0]["params"]]
            optimizer = torch.optim.AdamW(
                [group for group, _ in pairs], lr=0.0, weight_decay=concepts.weight_decay
            )
            first = 0
            if checkpoint.is_file():
                first = _resume(checkpoint, parameters, optimizer, self.device)
                advance(first)
            saved = time.monotonic()
            for step in range(first, training.steps):
                for group, (_, rate) in zip(optimizer.param_groups, pairs, strict=True):
                    group["lr"] = rate * self._share(step, training.steps)
                loss = self._loss(training, step)
                if not torch.isfinite(loss):
                    raise ValueError(
                        f"the loss of {training.shown(self.phrases)} is not finite at step {step}: "
                        "take a lower token_lr or lora_lr in the method's `prepare`"
                    )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                advance(1)
                if time.monotonic() - saved >= CHECKPOINT and step + 1 < training.steps:
                    _save(checkpoint, step + 1, parameters, optimizer)
                    saved = time.monotonic()
            self._write(training, folder)
        checkpoint.unlink(missing_ok=True)

    def _share(self, step: int, steps: int) -> float:
        """The share of the learning rate that a step has."""
        warmup = min(self.concepts.warmup, steps)
        if step < warmup:
            return (step + 1) / warmup
        if self.concepts.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    @contextmanager
    def _concept(self, training: Training) -> Iterator[dict[str, torch.nn.Parameter]]:
        """Put the weights to be learned into the pipeline, and take them out at the end."""
        import torch
        from peft import LoraConfig

        concepts, pipe = self.concepts, self.pipe
        before = list(text_encoders(pipe))
        embeddings = [encoder.get_input_embeddings() for _, encoder, _ in before]
        devices = [self.device] if self.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices):
                torch.manual_seed(derive_seed(self.seed, "lora", training.name))
                options: dict[str, Any] = {"r": concepts.rank, "lora_alpha": concepts.rank}
                options["init_lora_weights"] = "gaussian"
                if concepts.rank:
                    pipe.unet.add_adapter(LoraConfig(target_modules=[*UNET], **options), NAME)
                if concepts.text_encoder:
                    for _, encoder, _ in before:
                        encoder.add_adapter(LoraConfig(target_modules=[*TEXT], **options), NAME)
            if concepts.vectors:
                for name, encoder, tokenizer in before:
                    self._add_tokens(training, name, encoder, tokenizer)
            parts = [("unet", pipe.unet), *((name, encoder) for name, encoder, _ in before)]
            parameters = {
                f"{part}/{name}": parameter
                for part, module in parts
                for name, parameter in module.named_parameters()
                if parameter.requires_grad
            }
            for parameter in parameters.values():
                parameter.data = parameter.data.float()
            yield parameters
        finally:
            pipe.unload_lora_weights()
            for (name, encoder, tokenizer), embedding in zip(before, embeddings, strict=True):
                encoder.set_input_embeddings(embedding)
                setattr(pipe, name.replace("text_encoder", "tokenizer"), tokenizer)

    def _add_tokens(self, training: Training, name: str, encoder: Any, tokenizer: Any) -> None:
        import torch

        weight, extended, rows = encoder.get_input_embeddings().weight, copy.deepcopy(tokenizer), []
        for label in training.labels:
            extended.add_tokens(self._vector_names(label))
            asked = self.concepts.initial
            words = self.phrases[label] if asked == "class" else asked
            ids = tokenizer(words, add_special_tokens=False)["input_ids"]
            if not ids:
                raise ValueError(
                    f"initial={asked}: a token is to begin as {words!r}, no word at all"
                )
            rows += [weight[ids[i % len(ids)]] for i in range(self.concepts.vectors)]
        encoder.set_input_embeddings(learned_rows(weight, torch.stack(rows), len(tokenizer)))
        setattr(self.pipe, name.replace("text_encoder", "tokenizer"), extended)

    def _vector_names(self, label: int) -> list[str]:
        """The tokens of a class as diffusers' `load_textual_inversion` names them."""
        more = (f"{token_name(label)}_{i}" for i in range(1, self.concepts.vectors))
        return [token_name(label), *more]

    def _loss(self, training: Training, step: int) -> torch.Tensor:
        """The loss of the generator on a batch; all that is drawn follows from `step`."""
        import torch

        concepts, count = self.concepts, self.concepts.batch_size
        draw = torch.Generator().manual_seed(derive_seed(self.seed, training.name, step))
        coins = (torch.rand(count, generator=draw) < 0.5).tolist()
        flips = [coin and concepts.flip for coin in coins]
        templates = torch.randint(len(concepts.templates), (count,), generator=draw).tolist()
        rows = [self._row(training, step * count + i) for i in range(count)]
        mean, std = torch.stack(list(map(self._posterior, rows, flips))).unbind(1)
        latents = self._scaled(mean + std * torch.randn(mean.shape, generator=draw).to(self.device))
        noise = torch.randn(mean.shape, generator=draw).to(self.device)
        most = self.scheduler.config.num_train_timesteps
        times = torch.randint(most, (count,), generator=draw).to(self.device)
        noisy = self.scheduler.add_noise(latents, noise, times)
        prompts = [
            render(
                concepts.templates[int(which)],
                label=self.phrases[self.images.labels[row]],
                token=token_name(self.images.labels[row]),
            )
            for which, row in zip(templates, rows, strict=True)
        ]
        velocity = self.scheduler.config.prediction_type == "v_prediction"
        target = self.scheduler.get_velocity(latents, noise, times) if velocity else noise
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            predicted = self.pipe.unet(noisy, times, **self._conditioning(prompts)).sample
        losses = (predicted.float() - target).square().mean((1, 2, 3))  # (B,)
        if concepts.snr_gamma is not None:
            losses = losses * self._min_snr(times, concepts.snr_gamma, velocity=velocity)
        return losses.mean()

    def _min_snr(self, times: torch.Tensor, gamma: float, *, velocity: bool) -> torch.Tensor:
        alpha = self.scheduler.alphas_cumprod.to(self.device)[times]
        snr = alpha / (1 - alpha)
        return snr.clamp(max=gamma) / (snr + 1 if velocity else snr)

    def _row(self, training: Training, position: int) -> int:
        """The image at a place of the stream of batches, in which each epoch has its own order."""
        epoch, place = divmod(position, len(training.rows))
        return training.rows[self._order(training.name, len(training.rows), epoch)[place]]

    def _shuffled(self, name: str, count: int, epoch: int) -> list[int]:
        import torch

        draw = torch.Generator().manual_seed(derive_seed(self.seed, "order", name, epoch))
        return torch.randperm(count, generator=draw).tolist()

    def _posterior(self, row: int, flip: bool) -> torch.Tensor:
        """Mean and deviation (2, C, h, w) of the latents of an image; it is encoded alone."""
        import torch

        if (row, flip) in self._posteriors:
            return self._posteriors[row, flip]
        size = (self.resolution, self.resolution)
        image = ImageOps.fit(self.images[row].image, size, method=Image.Resampling.LANCZOS)
        image = ImageOps.mirror(image) if flip else image
        with torch.no_grad():
            pixels = self.pipe.image_processor.preprocess(image).to(self.device)
            posterior = self.pipe.vae.encode(pixels).latent_dist
            found = torch.cat([posterior.mean, posterior.std])
        if (len(self._posteriors) + 1) * found.nbytes <= CACHED:
            self._posteriors[row, flip] = found
        return found

    def _scaled(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents of the VAE as the UNet takes them."""
        config = self.pipe.vae.config
        mean, std = (
            latents.new_tensor(config.get(name) or [one]).view(1, -1, 1, 1)
            for name, one in (("latents_mean", 0.0), ("latents_std", 1.0))
        )
        return (latents - mean) * config.scaling_factor / std

    def _conditioning(self, prompts: Sequence[str]) -> dict[str, Any]:
        """The UNet's keyword arguments for prompts."""
        import torch

        if self.concepts.vectors or self.concepts.text_encoder:
            return self._encoded(prompts)
        for prompt in prompts:
            if prompt not in self._texts:
                with torch.no_grad():
                    self._texts[prompt] = self._encoded([prompt])
        each = [self._texts[prompt] for prompt in prompts]
        return {
            key: {name: torch.cat([one[key][name] for one in each]) for name in value}
            if isinstance(value, dict)
            else torch.cat([one[key] for one in each])
            for key, value in each[0].items()
        }

    def _encoded(self, prompts: Sequence[str]) -> dict[str, Any]:
        tokens, _, *more = self.pipe.encode_prompt(
            list(prompts),
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        if not more:
            return {"encoder_hidden_states": tokens}
        side = self.resolution  # XL is told the size: of a whole image that is not resized
        sizes = tokens.new_tensor([side, side, 0, 0, side, side]).expand(len(prompts), -1)
        added = {"text_embeds": more[0], "time_ids": sizes}
        return {"encoder_hidden_states": tokens, "added_cond_kwargs": added}

    def _write(self, training: Training, folder: Path) -> None:
        """The tokens and the LoRA, in the formats of diffusers."""
        from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
        from peft.utils.save_and_load import get_peft_model_state_dict
        from safetensors.torch import save_file

        if self.concepts.rank:
            parts = [("unet", self.pipe.unet)]
            if self.concepts.text_encoder:
                parts += [(name, encoder) for name, encoder, _ in text_encoders(self.pipe)]
            layers = {
                f"{part}_lora_layers": convert_state_dict_to_diffusers(
                    get_peft_model_state_dict(module, adapter_name=NAME)
                )
                for part, module in parts
            }
            file = training.lora(folder)
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(file) as partial:
                self.pipe.save_lora_weights(str(file.parent), weight_name=partial.name, **layers)
        if self.concepts.vectors:
            found = {}
            for name, encoder, _ in text_encoders(self.pipe):
                rows = getattr(encoder.get_input_embeddings(), ROWS).detach().cpu()
                each = rows.split(self.concepts.vectors)
                for label, own in zip(training.labels, each, strict=True):
                    found[f"{name}/{token_name(label)}"] = own.contiguous()
            file = training.tokens(folder)
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(file) as partial:
                save_file(found, partial)


ROWS = "learned_rows"


def learned_rows(weight: torch.Tensor, rows: torch.Tensor, first: int) -> Any:
    """An embedding (V, D) whose ids from `first` on are the parameter `rows` (n, D).

    The rows of `weight` are no parameters: nothing but the new ones can change.
    """
    import torch
    from torch import nn
    from torch.nn.functional import embedding

    class LearnedEmbedding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = weight.detach()  # no parameter
            setattr(self, ROWS, nn.Parameter(rows.detach().clone().float()))

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            learned = getattr(self, ROWS)
            old = embedding(ids.clamp(max=first - 1), self.weight)
            new = embedding((ids - first).clamp(min=0), learned).to(old.dtype)
            return torch.where((ids < first).unsqueeze(-1), old, new)

    return LearnedEmbedding()


def _save(file: Path, step: int, parameters: Any, optimizer: Any) -> None:
    import torch

    file.parent.mkdir(parents=True, exist_ok=True)
    values = {name: one.detach() for name, one in parameters.items()}
    with atomic_path(file) as partial:
        torch.save(
            {"step": step, "parameters": values, "optimizer": optimizer.state_dict()}, partial
        )


def _resume(file: Path, parameters: Any, optimizer: Any, device: torch.device) -> int:
    """Load a checkpoint; the number of steps that it is of."""
    import torch

    state = torch.load(file, map_location=device, weights_only=True)
    for name, parameter in parameters.items():
        parameter.data.copy_(state["parameters"][name])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def _join(parts: Sequence[Path], file: Path) -> None:
    """One file of the tokens of all classes."""
    from safetensors.torch import load_file, save_file

    found: dict[str, torch.Tensor] = {}
    for part in parts:
        found |= load_file(part)
    with atomic_path(file) as partial:
        save_file(found, partial)


def _dtype(device: torch.device) -> torch.dtype:
    """The number format of the frozen weights; what is learned is float32."""
    import torch

    narrow = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if narrow else torch.float32


def _free(device: torch.device) -> None:
    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def free_memory(device: torch.device) -> int:
    """Bytes of memory that are free on a device."""
    import psutil
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def memory_needed(
    concepts: Concepts,
    folder: Path,
    resolution: int,
    dtype: torch.dtype,
    checkpoint: Path | None = None,
) -> int:
    """Bytes that a training takes, about: weights, optimizer, and what backward needs of a batch.

    The last is counted on the UNet without its weights, on torch's device `meta`, where nothing is
    computed. With gradient checkpointing one block at a time comes on top of what is kept, about
    twice as much again.
    """
    import torch
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from peft import LoraConfig
    from torch.autograd.graph import saved_tensors_hooks

    parts = pipeline_shapes(folder, checkpoint).parts
    numbers = sum(math.prod(shape) for part in parts.values() for shape in part.values())
    weights = numbers * dtype.itemsize
    config: Any = UNet2DConditionModel.load_config(folder / "unet", local_files_only=True)
    down = 2 ** (len((read_json(folder / "vae" / "config.json") or {})["block_out_channels"]) - 1)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            key = tensor.untyped_storage()._cdata
            kept[key] = max(kept.get(key, 0), tensor.numel() * tensor.element_size())
        return tensor

    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(config)
        unet.to(dtype).requires_grad_(False)
        if concepts.rank:
            unet.add_adapter(LoraConfig(r=concepts.rank, target_modules=[*UNET]), NAME)
        if concepts.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
            unet.train()
        count, side = concepts.batch_size, resolution // down
        latents = torch.empty(count, unet.config.in_channels, side, side, dtype=dtype)
        width = unet.config.cross_attention_dim
        text = torch.empty(count, 77, width, dtype=dtype, requires_grad=True)
        more = {}
        if unet.config.addition_embed_type == "text_time":
            pooled = unet.config.projection_class_embeddings_input_dim
            pooled -= 6 * unet.config.addition_time_embed_dim
            added = {"text_embeds": torch.empty(count, pooled, dtype=dtype)}
            more = {"added_cond_kwargs": {**added, "time_ids": torch.empty(count, 6)}}
        with (
            saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", enabled=False),
        ):
            unet(latents, torch.zeros(count, dtype=torch.long), text, **more)
    learned = sum(one.numel() for one in unet.parameters() if one.requires_grad)
    activations = sum(kept.values()) * (3 if concepts.gradient_checkpointing else 1)
    return weights + 16 * learned + activations  # numbers, gradients and two moments in float32


def image_name(key: str) -> str:
    """The name of what was learned from one image."""
    return f"image-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def learned(
    artifact: Path | None, key: str, label: int, *, scale: float = 1.0
) -> tuple[Adapter, ...]:
    """The LoRA that `Concepts` learned of the class drawn, of all images, or of the original."""
    assert artifact is not None, "the method has no `prepare`"
    name = {"set": "set", "class": f"class-{label}", "image": image_name(key)}[_each(artifact)]
    return (Adapter(artifact / "lora" / f"{name}.safetensors", scale),)


@lru_cache(16)
def _each(artifact: Path) -> str:
    return json.loads((artifact / INDEX).read_text(encoding="utf-8"))["each"]
