"""Limits of what models with a `knows` say about a dataset, for people who read the results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def limits(models: Mapping[str, Any], dataset: str, *, generates: bool) -> list[str]:
    """Sentences on what results with these models do not show.

    Args:
        models: the config's section, with `name`, `knows`, `known` and `seen`.
        dataset: the name of the dataset's config.
        generates: whether images are generated at all.
    """
    name, found = models["name"], []
    if generates and models.get("knows") and dataset not in models["known"]:
        found.append(
            f"models={name} knows {models['knows']} and nothing else: its captions and images of "
            f"{dataset} will be nonsense."
        )
    if dataset in models.get("seen", ()):
        found.append(
            f"models={name} and the bundled backbones were trained on images of {dataset}: a gain "
            "by them is no evidence."
        )
    return found
