"""Classifiers made of the image tower of a CLIP (Radford et al., 2021) that open_clip loads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgid.models.clip import clip_tokenizer
from sgid.runtime.terminal import quiet

HEADS = ("random", "zero_shot")


def open_clip_model(
    *,
    name: str | None,
    head: str,
    prompt: str,
    class_names: Sequence[str],
    image_size: int,
    weights: Path | None,
    seed: int,
) -> ImageTower:
    """The image tower of the CLIP in the folder `weights`, and a linear head.

    Weights bring their architecture along; without them `name` says it, and the tower is trained
    from scratch. Position embeddings are resampled where `image_size` is not the CLIP's own.

    `head` is `random`, or `zero_shot`: the text embeddings of `prompt` for each class, times the
    CLIP's logit scale, so that before any training this is the CLIP's zero-shot classifier. The
    text tower is let go after that.

    Raises:
        ValueError: if the options do not fit each other, or open_clip cannot make the model.
    """
    if head not in HEADS:
        raise ValueError(f"backbone.model.head={head}: must be one of {', '.join(HEADS)}")
    if head == "zero_shot" and weights is None:
        raise ValueError("backbone.model.head=zero_shot: needs backbone.weights, or head=random")
    if "{label}" not in prompt:
        raise ValueError(f"backbone.model.prompt={prompt}: must hold {{label}}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _load(name, weights, image_size).eval()
        with torch.no_grad():
            features = model.encode_image(torch.zeros(1, 3, image_size, image_size))  # (1, D)
        linear = nn.Linear(features.shape[1], len(class_names))
    if head == "zero_shot" and weights is not None:
        texts = [prompt.replace("{label}", name) for name in class_names]
        _zero_shot(linear, model, clip_tokenizer(weights)(texts))
    return ImageTower(model.visual, linear, normalised=head == "zero_shot")


def own_size(name: str | None, weights: Path | None) -> int | None:
    """Side, in pixels, of the images that a CLIP needs; `None` if it is unknown."""
    import open_clip

    if weights is not None:
        config = json.loads((weights / "open_clip_config.json").read_text())["model_cfg"]
    else:
        config = open_clip.get_model_config(name or "")
    size = config and config["vision_cfg"].get("image_size", 224)
    return max(size) if isinstance(size, list) else size


def _load(name: str | None, weights: Path | None, image_size: int) -> Any:
    """The whole CLIP, on the CPU."""
    import open_clip

    if weights is not None and name is not None:
        raise ValueError(
            f"backbone.model.name={name}: only without weights, which are of an architecture of "
            "their own; set backbone.weights=null, or change the weights and leave the name null"
        )
    if weights is None and name not in open_clip.list_models():
        raise ValueError(
            f"backbone.model.name={name}: without weights it must be one of open_clip's models, "
            "such as ViT-B-32 or RN50; see open_clip.list_models()"
        )
    quiet()
    try:
        return open_clip.create_model(
            name or f"local-dir:{weights}", force_image_size=image_size,
            pretrained_image=False, pretrained_text=False,
        )  # fmt: skip
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(
            f"open_clip cannot make {name or weights} for backbone.image_size={image_size} "
            f"(change it, or backbone.weights): {error}"
        ) from error


@torch.no_grad()
def _zero_shot(linear: nn.Linear, model: Any, tokens: Tensor) -> None:
    """Set the head to score the similarity of an image to each text, tokens (classes, L)."""
    embeddings = [model.encode_text(part, normalize=True) for part in tokens.split(64)]
    linear.weight.copy_(torch.cat(embeddings) * model.logit_scale.exp())
    bias = getattr(model, "logit_bias", None)  # SigLIP has one
    linear.bias.fill_(0.0 if bias is None else float(bias))


@final
class ImageTower(nn.Module):
    """Normalised pixels (B, 3, H, W) -> logits (B, classes).

    It answers what timm asks of its own models, so that both kinds are trained alike. Features
    have unit length where `normalised`, as zero-shot classification has them.
    """

    def __init__(self, visual: Any, head: nn.Linear, *, normalised: bool) -> None:
        super().__init__()
        if hasattr(visual, "output_tokens"):  # CoCa's gives tokens as well
            visual.output_tokens = False
        self.visual = visual
        self.head = head
        self.normalised = normalised
        self.pretrained_cfg = {key: visual.preprocess_cfg[key] for key in ("mean", "std")}
        self.train()  # open_clip's loader and the zero-shot head leave it in evaluation

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.visual(pixels)  # (B, D)
        return self.head(F.normalize(features, dim=-1) if self.normalised else features)

    def get_classifier(self) -> nn.Linear:
        return self.head

    def no_weight_decay(self) -> set[str]:
        # A tower of timm's is wrapped by open_clip, without this method.
        trunk = getattr(self.visual, "trunk", None)
        owner, prefix = (self.visual, "visual") if trunk is None else (trunk, "visual.trunk")
        return {f"{prefix}.{name}" for name in getattr(owner, "no_weight_decay", set)()}

    def group_matcher(self, coarse: bool = False) -> Any:
        """Patterns that assign weights to layers, in timm's form: stem, blocks, head.

        What comes after the last block counts as part of it, as in timm's own transformers.
        """
        from timm.models import group_parameters

        if trunk := getattr(self.visual, "trunk", None):  # a timm model as the tower
            matcher = trunk.group_matcher(coarse=coarse)
            layers: Any = group_parameters(trunk, matcher, reverse=True)  # name -> layer
            last = max(layers.values())

            def layer(name: str) -> int:
                if name.startswith("head."):
                    return last + 1
                return layers.get(name.removeprefix("visual.trunk."), last)

            return layer
        return {
            "stem": r"^visual\.(?:conv|bn|class_embedding|positional_embedding|ln_pre)",
            "blocks": [
                (r"^visual\.transformer\.resblocks\.(\d+)", None),
                (r"^visual\.layer(\d+)\.(\d+)", None),
                (r"^visual\.", (99999,)),  # timm's mark of "with the layer before"
            ],
        }
