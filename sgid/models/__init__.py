"""Pretrained models: their weights on disk, loading, and captioner, scorer and diffusion
pipeline.
"""
