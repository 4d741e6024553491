"""The augmentations that the experiments compare, as `aug` takes them."""

BASE = ["[none]", "[flip_crop]"]
PERTURBATIONS = [
    "[cutout]", "[random_erasing]", "[mixup]", "[cutmix]", "[autoaugment]", "[randaugment]",
    "[trivialaugment]", "[augmix]", "[gridmask]",
]  # fmt: skip
GENERATIVE = [
    "[text2img_label]", "[text2img_caption]",
    "[img2img_label]", "[img2img_caption]", "[img2img_plain]",
]  # fmt: skip
SGID = ["[sgid]"]
WITHOUT_A_PART = ["[no_label]", "[no_caption]", "[fixed_guidance]", "[random_caption]"]

# Methods of others, in the main table alone.
FURTHER = ["[da_fusion_plain]", "[genie]"]
