"""Augmentations at training time: per-image and per-batch transforms, mixing real and generated."""
