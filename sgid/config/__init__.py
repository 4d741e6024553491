"""Typed options: their schema, composition, help, and the targets that they may call."""
