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

# Methods of the literature, compared with each other; `da_fusion` learns what the main table's
# `da_fusion_plain` leaves out.
LITERATURE = [
    "[real_guidance]", "[disef]", "[discl]", "[alia]", "[diagen]", "[genie]", "[genie_ada]",
    "[gif]", "[distdiff]", "[feedback_guided]", "[noise_cutmix]", "[diff_ii]", "[real_mix]",
    "[da_fusion]", "[diff_aug]", "[diff_mix]", "[datadream]", "[real_fake]",
]  # fmt: skip

# Methods of others, in the main table alone.
FURTHER = ["[da_fusion_plain]", "[genie]"]

# In no grid: they draw with models that are not bundled (docs/augmentations.md).
NOT_BUNDLED = ["[dalda]", "[saspa]", "[alia_edit]"]
