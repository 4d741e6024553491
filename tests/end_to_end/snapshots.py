"""Folders as `hf download` leaves them: the real models' layouts and files, tiny random weights."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file


def write_stable_diffusion(folder: Path, *, shard_size: str = "10GB") -> Path:
    """Stable Diffusion 1.5 without its safety checker, which is not fetched."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    UNet2DConditionModel(
        sample_size=64, in_channels=4, out_channels=4, layers_per_block=1,
        block_out_channels=(8, 16), norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16, attention_head_dim=2,
    ).save_pretrained(folder / "unet", max_shard_size=shard_size)  # fmt: skip
    AutoencoderKL(
        block_out_channels=(4, 4, 4, 4), norm_num_groups=2, latent_channels=4, sample_size=512,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=0.18215,
    ).save_pretrained(folder / "vae")  # fmt: skip
    CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=77, bos_token_id=0, eos_token_id=2,
            pad_token_id=1,
        )
    ).save_pretrained(folder / "text_encoder")  # fmt: skip
    write_clip_tokenizer(folder / "tokenizer")
    write_json(
        folder / "scheduler" / "scheduler_config.json",
        _class_name="PNDMScheduler", _diffusers_version="0.6.0", beta_start=0.00085, beta_end=0.012,
        beta_schedule="scaled_linear", num_train_timesteps=1000, set_alpha_to_one=False,
        skip_prk_steps=True, steps_offset=1, trained_betas=None, clip_sample=False,
    )  # fmt: skip
    write_json(
        folder / "model_index.json",
        _class_name="StableDiffusionPipeline",
        _diffusers_version="0.6.0",
        feature_extractor=["transformers", "CLIPImageProcessor"],
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        scheduler=["diffusers", "PNDMScheduler"],
        text_encoder=["transformers", "CLIPTextModel"],
        tokenizer=["transformers", "CLIPTokenizer"],
        unet=["diffusers", "UNet2DConditionModel"],
        vae=["diffusers", "AutoencoderKL"],
    )
    return folder


def write_clip_tokenizer(folder: Path) -> None:
    """CLIP's own vocabulary of 49,408 tokens, in the files that SD 1.5 has it in."""
    from open_clip.tokenizer import SimpleTokenizer

    simple = SimpleTokenizer()
    tokens = list(simple.encoder)[:-2] + ["<|startoftext|>", "<|endoftext|>"]
    write_json(folder / "vocab.json", **{token: i for i, token in enumerate(tokens)})
    merges = ["#version: 0.2", *(" ".join(pair) for pair in simple.bpe_ranks)]
    (folder / "merges.txt").write_text("\n".join(merges) + "\n", encoding="utf-8")
    ends = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    ends |= {"unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    write_json(folder / "special_tokens_map.json", **ends)
    write_json(
        folder / "tokenizer_config.json",
        add_prefix_space=False, do_lower_case=True, errors="replace", model_max_length=77,
        name_or_path="openai/clip-vit-large-patch14", tokenizer_class="CLIPTokenizer", **ends,
    )  # fmt: skip


def write_blip(folder: Path) -> Path:
    """BLIP with BERT's vocabulary of 30,522, to which the model adds two tokens of its own."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    torch.manual_seed(0)
    shared = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    text = {"vocab_size": 30524, "encoder_hidden_size": 16, "max_position_embeddings": 512}
    ends = {"bos_token_id": 30522, "eos_token_id": 2, "pad_token_id": 0, "sep_token_id": 102}
    config = BlipConfig(
        vision_config={"image_size": 32, "patch_size": 16, "num_hidden_layers": 1, **shared},
        text_config={"num_hidden_layers": 1, **shared, **text, **ends},
        projection_dim=16,
    )
    BlipForConditionalGeneration(config).save_pretrained(folder)
    names = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    (folder / "vocab.txt").write_text("".join(f"{names.get(i, f'w{i}')}\n" for i in range(30522)))
    special = {"cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]"}
    special |= {"sep_token": "[SEP]", "unk_token": "[UNK]"}
    write_json(folder / "special_tokens_map.json", **special)
    write_json(
        folder / "tokenizer_config.json",
        do_basic_tokenize=True, do_lower_case=True, model_max_length=512, never_split=None,
        processor_class="BlipProcessor", tokenizer_class="BertTokenizer", **special,
    )  # fmt: skip
    write_json(
        folder / "preprocessor_config.json",
        do_normalize=True, do_rescale=True, do_resize=True, resample=3, rescale_factor=1 / 255,
        image_mean=[0.48145466, 0.4578275, 0.40821073],
        image_std=[0.26862954, 0.26130258, 0.27577711],
        image_processor_type="BlipImageProcessor", processor_class="BlipProcessor",
        size={"height": 32, "width": 32},
    )  # fmt: skip
    return folder


def write_open_clip(folder: Path) -> Path:
    """A CLIP of open_clip, which brings the tokenizer itself."""
    from open_clip.model import CLIP

    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    model = CLIP(embed_dim=8, vision_cfg=vision, text_cfg=text)
    folder.mkdir(parents=True)
    save_file(
        {name: weight.contiguous() for name, weight in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    write_json(
        folder / "open_clip_config.json",
        model_cfg={"embed_dim": 8, "vision_cfg": vision, "text_cfg": text},
        preprocess_cfg={
            "mean": [0.48145466, 0.4578275, 0.40821073],
            "std": [0.26862954, 0.26130258, 0.27577711],
        },
    )
    return folder


def write_timm(folder: Path, name: str) -> Path:
    """A timm model with the head that its published weights have."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False)
    folder.mkdir(parents=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    write_json(folder / "config.json", architecture=name.partition(".")[0], num_classes=21843)
    return folder


def into_hub_cache(cache: Path, id: str, folder: Path, revision: str | None) -> Path:
    """Move a folder into the hub's cache as the snapshot `revision` of `id`; None is on `main`."""
    repository = cache / f"models--{id.replace('/', '--')}"
    commit = revision or hashlib.sha1(id.encode()).hexdigest()
    snapshot = repository / "snapshots" / commit
    (repository / "blobs").mkdir(parents=True)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        place = snapshot / file.relative_to(folder)
        blob = repository / "blobs" / hashlib.sha256(str(place).encode()).hexdigest()
        place.parent.mkdir(parents=True, exist_ok=True)
        file.rename(blob)
        place.symlink_to(os.path.relpath(blob, place.parent))
    if revision is None:
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(commit)
    return snapshot


def write_json(file: Path, /, **content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2), encoding="utf-8")
