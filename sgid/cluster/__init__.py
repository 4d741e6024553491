"""Captions and images made by many machines: `cluster=ray` (Moritz et al., OSDI 2018)."""
