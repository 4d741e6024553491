"""SGID: semantic-guided image augmentation with diffusion models (Li et al., AAAI 2024)."""

__version__ = "0.1.0"
