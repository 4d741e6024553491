"""What the fork server imports: all that takes long, and nothing that starts threads."""

import diffusers  # noqa: F401
import matplotlib.backends.backend_agg  # noqa: F401
import open_clip  # noqa: F401
import pytorch_lightning  # noqa: F401
import scipy.stats  # noqa: F401
import timm  # noqa: F401
import torch
import torchmetrics  # noqa: F401
import transformers  # noqa: F401

torch.set_num_threads(1)
