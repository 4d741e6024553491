"""Values out of range are named with their rule, before anything else is looked at."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import OmegaConf

from sgid.config.compose import CONF
from sgid.config.schema import Config, register
from sgid.stages.method_validation import LATENTS, PREDICTED, PREPARED
from sgid.stages.validation import invalid_options


def lines(*overrides: str) -> list[str]:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_object(compose("config", list(overrides)))
    assert isinstance(config, Config)
    return invalid_options(config)


def test_a_long_folder_for_temporary_files(monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/" + "t" * 75)
    (said,) = lines("trainer.workers=2")
    assert "set TMPDIR=/tmp, or trainer.workers=0" in said
    assert lines("trainer.workers=0") == lines("trainer.workers=auto") == []


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (f"dataset.name={'n' * 260}", f"dataset.name={'n' * 20}...: files are named for it"),
        ("noise_rate=0", "noise_rate=0.0: must be above 0, at most 1"),
        ("noise_rate=1.5", "noise_rate=1.5: must be above 0, at most 1"),
        ("noise_rate=nan", "noise_rate=nan: must be"),
        ("steps=20 noise_rate=0.01", "noise_rate=0.01: with steps=20 no step would be run"),
        ("aug.sgid.strength=0.1 steps=5", "aug.sgid.strength=0.1: with steps=5 no step"),
        ("aug.sgid.strength=2", "aug.sgid.strength=2: must be above 0"),
        ("aug.sgid.from_image=perhaps", "aug.sgid.from_image=perhaps: must be true or false"),
        ("aug.sgid.slot=offlin", "aug.sgid.slot=offlin: must be one of offline, base"),
        ("models.guidance_scale=99 aug=text2img_label", "aug.text2img_label.guidance.scale=99"),
        (
            "aug.sgid.prompt='a_{token}'",
            "aug.sgid.prompt has {token}, and nothing learns tokens; give aug.sgid.prepare",
        ),
        (
            "aug=da_fusion aug.da_fusion.prepare.epochs=3",
            "aug.da_fusion.prepare: steps=1000, epochs=3: give one of them",
        ),
        (
            "aug=da_fusion models=any",
            "aug.da_fusion draws with what it has learned, which models=any cannot",
        ),
        (
            "models.generator.lora=[{path:a.safetensors,scale:99}]",
            "models.generator.lora: scale=99.0: must be within -10 and 10",
        ),
        ("aug=dalda models=any", "aug.dalda draws with image prompts, which models=any cannot"),
        ("aug=alia_edit models=any", "aug.alia_edit draws edits, which models=any cannot"),
        (
            "aug=saspa models=sd15 models.generator.deep_cache=2",
            "aug.saspa draws along edges, which change at every step what models.generator.deep_ca",
        ),
        ("aug=saspa aug.saspa.edges.low=300", "aug.saspa.edges: low=300, high=200: must be"),
        ("aug=dalda +aug.dalda.image_prompt.size=3", "aug.dalda.image_prompt: "),
        ("aug=dalda aug.dalda.image_prompt.scale=9", "aug.dalda.image_prompt: scale=9: must be"),
        ("aug=alia_edit aug.alia_edit.image_guidance=99", "aug.alia_edit.image_guidance=99: must"),
        ("aug=alia_edit aug.alia_edit.strength=0.5", "aug.alia_edit.image_guidance: an image is"),
        # Parts of methods that do not go together, or would do nothing.
        ("+aug.disef.select.atempts=3 aug=disef", "aug.disef.select: sgid.methods.selection.redr"),
        (
            "+aug.gif.on_latents.bond=3 aug=gif",
            "aug.gif.on_latents: sgid.methods.gif.informative got an u",
        ),
        ("aug=alia aug.alia.prepare=null", "aug.alia.select.accept.1: sgid.methods.selection.nei"),
        ("aug=datadream aug.datadream.prepare=null", "aug.datadream.adapters: sgid.methods.concep"),
        (
            "aug=gif aug.gif.prepare._target_=sgid.methods.distdiff.prototypes",
            "aug.gif.on_latents: sgid.methods.gif.informative needs aug.gif.prepare._target_=sgid.",
        ),
        ("aug=disef aug.disef.select.attempts=0", "aug.disef.select.attempts=0: must be at least"),
        ("aug=feedback_guided steps=5", "aug.feedback_guided.on_latents: of steps=5 5 run, and it"),
        (
            "aug=feedback_guided steps=2 aug.feedback_guided.on_latents.every=0",
            "aug.feedback_guided.on_latents: of",
        ),
        ("aug=distdiff steps=3", "aug.distdiff.on_latents: of steps=3 1 run"),
        (
            "aug=feedback_guided aug.feedback_guided.on_latents.criterion=x",
            "aug.feedback_guided.on_latents.cri",
        ),
        (
            "aug=real_mix aug.real_mix.strength={min:0.3,max:0.9}",
            "aug.real_mix.strength: a label that is shared by the strength needs a number",
        ),
        (
            "aug=diff_ii aug.diff_ii.changes.later='{caption}'",
            "aug.diff_ii.changes.later has {caption}; of it only {label}, {superclass}",
        ),
        ("aug=diff_ii aug.diff_ii.prepare.prompt='{token}'", "aug.diff_ii.prepare.prompt has {to"),
        ("aug=sgid +aug.sgid.use={how:replace,scored:true}", "aug.sgid.use.scored: nothing scores"),
        ("aug=diff_mix aug.diff_mix.prepare.rank=0", "aug.diff_mix.adapters are LoRAs that aug.di"),
        (
            "aug=datadream aug.datadream.prompt='{token}'",
            "aug.datadream.prompt has {token}, and nothing learns tokens",
        ),
        ("aug.sgid.prompt=[]", "aug.sgid.prompt is an empty list"),
        (
            "aug=text2img_label aug.text2img_label.strength=0.4",
            "aug.text2img_label.strength=0.4: of",
        ),
        ("aug=gif models=any", "aug.gif draws with changes to latents, which models=any cannot"),
        ("aug=noise_cutmix models=any", "aug.noise_cutmix draws from latents, or by prompts, of"),
        (
            "models=any models.generator.controlnet=x",
            "models.generator.controlnet=x: models=any calls the model's own pipeline",
        ),
        ("aug=[]", "aug=[]: name one; flip_crop is"),
        ("aug=[none,flip_crop]", "aug=none,flip_crop: each says what images go through first"),
        ("aug.sgid.caption=worst", "aug.sgid.caption=worst: must be one of best, random"),
        ("+aug.sgid.strenth=1", "aug.sgid: strenth is unknown; a method has"),
        ("filter=band filter.min=0.9 filter.max=0.1", "filter.min=0.9, filter.max=0.1: must be"),
        ("dataset.fraction=1.5", "dataset.fraction=1.5: must be above 0, at most 1"),
        ("dataset.imbalance=0.5", "dataset.imbalance=0.5: must be at least 1"),
        ("dataset.train_per_class=0", "dataset.train_per_class=0: must be at least 1"),
        ("backbone.trained=tail", "backbone.trained=tail: must be one of all, head"),
        ("backbone.layer_decay=2", "backbone.layer_decay=2.0: must be above 0, at most 1"),
        ("guidance.max=-1", "guidance.max=-1: must be a number from 0 to 30"),
        ("guidance.max=abc", "guidance.max=abc: must be a number from 0 to 30"),
        ("guidance.min=8 guidance.max=4", "guidance.min=8: must not be above guidance.max=4"),
        ("guidance.quantiles=[0.9,0.1]", "guidance.quantiles=[0.9, 0.1]: must be two numbers"),
        ("guidance.quantiles=[0.9]", "guidance.quantiles=[0.9]: must be two numbers"),
        ("guidance.quantiles=3", "guidance.quantiles=3: must be two numbers"),
        ("guidance=fixed guidance.scale=31", "guidance.scale=31: must be a number from 0 to 30"),
        ("expansion=0", "expansion=0: must be at least 1"),
        ("advise.screened=1", "advise.screened=1: must be 0 or at least 2"),
        ("dataset.shots=0", "dataset.shots=0: must be at least 1"),
        ("dataset.max_bad=1", "dataset.max_bad=1.0: must be at least 0, below 1"),
        ("dataset.validation=0", "dataset.validation=0.0: must be above 0, below 1"),
        ("mix.how=foo", "mix.how=foo: must be one of concatenate, replace"),
        ("mix.probability=2", "mix.probability=2.0: must be at least 0, at most 1"),
        ("store.format=gif", "store.format=gif: must be one of png, webp, jpeg"),
        ("stage=export export.to=d", "stage=export needs store=PATH, artifacts/generated/"),
        ("stage=export store.path=p", "stage=export needs export.to=DIR, a new folder"),
        ("export.to=d", "export.to=d: used by stage=export alone, not by stage=all"),
        ("export.format=zip", "export.format=zip: must be one of imagefolder, webdataset"),
        ("export.size=huge", "export.size=huge: must be one of generator, original"),
        ("store.shard_size=0", "store.shard_size=0: must be at least 1"),
        ("trainer.device=foo", "trainer.device=foo: must be one of auto, cpu, cuda, mps"),
        ("trainer.precision=foo", "trainer.precision=foo: must be one of auto, 32-true"),
        (
            "trainer.workers=-1",
            "trainer.workers=-1: must be auto, or a number that is at least 0",
        ),
        ("trainer.devices=0", "trainer.devices=0: must be at least 1"),
        ("trainer.devices=3", "backbone.batch_size=64: must be a multiple of trainer.devices=3"),
        ("trainer.validations=0", "trainer.validations=0: must be at least 1"),
        ("backbone.batch_size=0", "backbone.batch_size=0: must be at least 1"),
        ("backbone.label_smoothing=2", "backbone.label_smoothing=2.0: must be at least 0"),
        ("backbone.epochs=3", "backbone.steps=400 and backbone.epochs=3: one of them"),
        ("backbone.steps=null", "backbone.steps=None and backbone.epochs=None: one of them"),
        ("models.generator.scheduler=Nonsense", "models.generator.scheduler=Nonsense: must be"),
        ("models.generator.dtype=foo", "models.generator.dtype=foo: must be one of auto"),
        (
            "models.generator.batch_size=0",
            "models.generator.batch_size=0: must be auto, or a number that is at least 1",
        ),
        (
            "models.generator.batch_size=most",
            "models.generator.batch_size=most: must be auto, or a number that is at least 1",
        ),
        (
            "models.generator.compile=fast",
            "models.generator.compile=fast: must be one of null, default, reduce-overhead, "
            "max-autotune",
        ),
        ("models.generator.deep_cache=0", "models.generator.deep_cache=0: must be at least 1"),
        (
            "models.generator.guidance_interval=[0.5,0.2]",
            "models.generator.guidance_interval=[0.5, 0.2]: must be two numbers within 0 and 1, "
            "the lower first",
        ),
        ("models.scorer.batch_size=-1", "models.scorer.batch_size=-1: must be at least 1"),
        ("models.captioner.top_p=0", "models.captioner.top_p=0.0: must be above 0, at most 1"),
    ],
)
def test_each_is_named_once(overrides, said):
    (line,) = lines(*overrides.split())
    assert line.startswith(said)


def test_a_prompt_names_its_unknown_field():
    (line,) = lines("aug.sgid.prompt='a {labl}'")
    assert (
        line.startswith("aug.sgid.prompt: ")
        and "labl" in line
        and "fields are label, superclass, description, " in line
    )


def test_all_are_named_at_once():
    assert len(lines("expansion=0", "mix.how=foo", "noise_rate=0")) == 3


@pytest.mark.parametrize(
    "overrides",
    [
        "noise_rate=1 guidance.min=0 guidance.max=30 models.captioner.top_p=1",
        "guidance=inverse aug=[sgid,text2img_label,randaugment,mixup,cutmix]",
        "guidance=fixed guidance.scale=0 mix.probability=0 backbone.warmup=0 dataset.max_bad=0",
        "trainer.device=cuda:1 models.generator.scheduler=DDIMScheduler dataset.shots=null",
        "backbone=resnet50 dataset=cars aug=none",
    ],
)
def test_the_ends_of_the_ranges_are_within(overrides):
    assert lines(*overrides.split()) == []


@pytest.mark.parametrize("name", sorted({*PREPARED, *PREPARED.values(), *PREDICTED, *LATENTS}))
def test_parts_that_are_looked_for_by_name_are_there(name):
    """One that is moved or renamed would be checked no more."""
    assert callable(get_object(name))
