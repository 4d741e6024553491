"""Prompt templates: text with fields, such as `{label}` and `{caption}`."""

from __future__ import annotations

import string

OF_CLASSES = ("label", "superclass", "description")
"""Fields that are filled in by class."""

TOKEN = "token"
"""Field that is filled in by the learned token of a class."""

FIELDS = (*OF_CLASSES, "caption", TOKEN)


def fields(template: str) -> set[str]:
    """The fields that a template uses; a subset of `FIELDS`.

    Raises:
        ValueError: for a field that does not exist, or braces that do not close.
    """
    try:
        parsed = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"prompt template {template!r}: {error}") from None
    used = {str(name) for _, name, _, _ in parsed}
    if unknown := used - set(FIELDS):
        raise ValueError(
            f"prompt template {template!r}: unknown field {', '.join(sorted(unknown))}; "
            f"the fields are {', '.join(FIELDS)}"
        )
    if any(form or conversion for _, _, form, conversion in parsed):
        raise ValueError(f"prompt template {template!r}: a field is its name in braces, no more")
    return used


def render(template: str, **texts: str) -> str:
    """Fill in the fields of `template`; the texts themselves are never parsed again."""
    fields(template)
    return template.format(**texts)
