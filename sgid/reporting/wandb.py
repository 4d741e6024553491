"""Weights & Biases: curves of a training, tables and images of a result, stores as artifacts.

One W&B run has all of them: `open_run` returns the open run of a result folder, or starts it.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate

from sgid.reporting.arms import arm, generates
from sgid.reporting.format import aug_text, run_command
from sgid.reporting.results import Example, Result, load_result, read_curves, read_examples

if TYPE_CHECKING:
    import wandb


log = logging.getLogger(__name__)

STEP = "trainer/global_step"  # Lightning's name for the axis of its curves

WAYS_ON = (
    "`wandb login` logs in; WANDB_MODE=offline keeps the run in its own folder, for `wandb sync` "
    "later; logger=none does without W&B"
)


MADE = "stores_made"  # the config key that names the stores which this run has made


@dataclass(frozen=True)
class WandbSettings:
    """Project and grouping of runs; `None` leaves a field to W&B, and `group` to the arm.

    `upload` sends the images of stores and the best checkpoint, not only their hashes.
    """

    project: str
    entity: str | None = None
    group: str | None = None
    job_type: str = "run"
    tags: Sequence[str] = ()
    upload: bool = False


def open_run(
    settings: WandbSettings,
    run_folder: Path,
    *,
    config: Mapping[str, Any],
    choices: Mapping[str, Any],
    seed: int,
) -> wandb.Run:
    """The W&B run of a result folder: the open one, or one begun (or resumed) now.

    Its files go below `run_folder`; `WANDB_MODE=offline` keeps them there. For live curves hand it
    to Lightning as `WandbLogger(experiment=open_run(...))`.

    Raises:
        ConnectionError: if W&B cannot be reached, or does not let this user in.
    """
    import wandb
    from wandb.errors import Error

    fingerprint = run_folder.name
    if wandb.run is not None and wandb.run.config.get("fingerprint") == fingerprint:
        return wandb.run
    aug = choices["aug"]
    words = [str(choices["dataset"]), str(choices["backbone"])]
    models = [str(choices["models"])] if generates(config, aug) else []
    names = short_names(config, choices)
    run_folder.mkdir(parents=True, exist_ok=True)
    # The agent of a sweep has given the run its id and its place already.
    swept = "WANDB_SWEEP_ID" in os.environ
    place = {"project": settings.project, "entity": settings.entity, "id": fingerprint}
    try:
        run = wandb.init(
            **({} if swept else place),
            group=settings.group or names["arm"],
            job_type=settings.job_type,
            name=f"{' '.join(words)} {names['augmentation']} seed {seed}",
            tags=list(dict.fromkeys([*settings.tags, *words, *aug, *models])),
            config={**config, **names, "fingerprint": fingerprint},
            dir=run_folder,
            resume=None if swept else "allow",
            # A job of the same sweep that failed may have left its run open.
            reinit="finish_previous",
            settings=wandb.Settings(console="off"),
        )
    except Error as error:
        raise ConnectionError(f"logger=wandb: {str(error).strip()}\n{WAYS_ON}") from error
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP, step_sync=True)
    return run


def is_offline() -> bool:
    """Whether W&B is set to send nothing."""
    import wandb

    return wandb.setup().settings.mode in ("offline", "dryrun", "disabled")


def nobody() -> str | None:
    """The message that nobody is logged in, or `None`; asks neither user nor server."""
    import wandb
    from wandb.sdk.lib import wbauth

    settings = wandb.setup().settings
    user = wbauth.authenticate_session(host=settings.base_url, source="sgid", prompt=False)
    return None if user else f"nobody is logged in to {settings.base_url}"


def short_names(config: Mapping[str, Any], choices: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of panels and filters under flat names, in addition to the nested config.

    The other short names (`seed`, `noise_rate`, `expansion`, `steps`) are flat in the config.
    """
    aug, guidance = choices["aug"], config["guidance"]
    fixed = guidance.get("scale")
    augmentation = aug_text(aug)
    words = [str(choices["dataset"]), str(choices["backbone"]), augmentation]
    return {
        "choices": {**choices, "aug": list(aug)},
        "augmentation": augmentation,
        "arm": f"{' '.join(words)} {arm(config, aug)[:6]}",  # the same for all seeds
        "generates": generates(config, aug),
        "shots": config["dataset"].get("shots"),
        "guidance_min": guidance.get("min", fixed),
        "guidance_max": guidance.get("max", fixed),
    }


def log_made(run: wandb.Run, folder: Path, settings: WandbSettings) -> None:
    """Log a store that this run made."""
    with staged_in(run):
        log_store(run, folder, upload=settings.upload)
    # In the config, where a run that is resumed finds it again.
    made = [*run.config.get(MADE, []), folder.name]
    run.config.update({MADE: made}, allow_val_change=True)


def log_run(run_folder: Path, settings: WandbSettings) -> None:
    """Log a finished run's figures, tables, images and artifacts, and close its W&B run.

    Curves are taken from the run's folder unless the training logged them live.

    Raises:
        ConnectionError: if W&B cannot be reached; what the run has left on disk is whole.
    """
    from wandb.errors import Error

    result = load_result(run_folder)
    run = open_run(
        settings, run_folder, config=result.config, choices=result.choices, seed=result.seed
    )
    try:
        with staged_in(run):
            _log(run, result, settings)
    except Error as error:
        again = run_command(result, stage="report")
        raise ConnectionError(
            f"logger=wandb: {str(error).strip()}\n"
            f"The run is finished and whole in {run_folder}. To log it again: {again}"
        ) from error
    run.finish()


def close_run(run_folder: Path, *, failed: bool) -> None:
    """Close the W&B run of a result folder if it is still open."""
    import wandb

    if wandb.run is not None and wandb.run.config.get("fingerprint") == run_folder.name:
        wandb.run.finish(exit_code=int(failed))


@contextmanager
def staged_in(run: wandb.Run) -> Iterator[None]:
    """Stage uploads in the folder of the run, where W&B would use the home directory."""
    chosen = os.environ.get("WANDB_DATA_DIR")
    # `dir` is <run folder>/wandb/<W&B's run>/files.
    os.environ["WANDB_DATA_DIR"] = chosen or str(Path(run.dir).absolute().parents[1])
    try:
        yield
    finally:
        if chosen is None:
            del os.environ["WANDB_DATA_DIR"]


def _log(run: wandb.Run, result: Result, settings: WandbSettings) -> None:
    import wandb

    folder = result.folder
    run.notes = run_command(result)
    if run.step == 0:
        for step, values in sorted(_by_step(folder).items()):
            run.log({**values, STEP: step})
    media: dict[str, Any] = {
        f"report/{path.stem}": wandb.Image(str(path)) for path in sorted(folder.glob("*.png"))
    }
    if (page := folder / "report.html").is_file():
        media["report/page"] = wandb.Html(page.read_text(encoding="utf-8"), inject=False)
    media["test/classes"] = class_table(result)
    if examples := read_examples(folder):
        media["augmented"] = example_table(examples)
    run.log(media)
    per_class = {f"test/top1/{name}" for name in result.class_accuracy}
    run.summary.update({key: v for key, v in result.metrics.items() if key not in per_class})
    run.summary.update(_measures(result))
    run.summary.update({f"seconds/{stage}": value for stage, value in result.seconds.items()})
    made = run.config.get(MADE, [])
    for store in map(Path, result.stores):
        if store.name not in made:
            use_store(run, store, upload=settings.upload)
    log_result(run, result, upload=settings.upload)


def _measures(result: Result) -> dict[str, float]:
    """`generated/<measure>`; of several methods, `generated/<method>/<measure>` each."""
    return {
        f"generated/{name}" if len(result.generated) == 1 else f"generated/{one.method}/{name}": v
        for one in result.generated
        for name, v in one.measures.items()
        if v is not None
    }


def _by_step(run_folder: Path) -> dict[int, dict[str, float]]:
    rows: dict[int, dict[str, float]] = {}
    for name, curve in read_curves(run_folder).items():
        for step, value in zip(curve.steps, curve.values, strict=True):
            rows.setdefault(step, {})[name] = value
    return rows


def unready(logger: dict[str, Any]) -> str | None:
    """The reason why the logger cannot be used, or `None`; nothing is sent to find out."""
    if not logger:
        return None
    if find_spec("wandb") is None:
        return 'logger=wandb needs wandb: pip install "sgid[tracking]", or take logger=none'

    if is_offline() or (missing := nobody()) is None:
        return None
    return f"logger=wandb: {missing}\n{WAYS_ON}"


@contextmanager
def tracking(
    logger: dict[str, Any],
    folder: Path,
    *,
    config: dict[str, Any],
    choices: dict[str, Any],
    seed: int,
) -> Iterator[None]:
    """Keep the logger's run open during the stages of a run; an error marks it as failed.

    It is opened before any work, so that a server that cannot be reached costs none.

    Raises:
        ConnectionError: if it cannot be opened.
    """
    if not logger:
        yield
        return

    open_run(instantiate(logger), folder, config=config, choices=choices, seed=seed)
    failed = True
    try:
        yield
        failed = False
    finally:
        close_run(folder, failed=failed)


def log_stores(logger: dict[str, Any], stores: Sequence[Path]) -> None:
    """Log the stores that the logger's open run made."""
    if not logger or not stores:
        return
    import wandb

    assert wandb.run is not None, "within tracking()"
    for store in stores:
        log_made(wandb.run, store, instantiate(logger))


def training_loggers(
    logger: dict[str, Any],
    folder: Path,
    *,
    config: dict[str, Any],
    choices: dict[str, Any],
    seed: int,
) -> list[Any]:
    """Lightning loggers for the live curves of a training; none with `logger=none`."""
    if not logger:
        return []
    from pytorch_lightning.loggers import WandbLogger

    run = open_run(instantiate(logger), folder, config=config, choices=choices, seed=seed)
    return [WandbLogger(experiment=run)]


def log_finished(logger: dict[str, Any], folder: Path) -> None:
    """Log the figures and images of a finished run."""
    if logger:
        log_run(folder, instantiate(logger))


def log_again(logger: dict[str, Any], folder: Path) -> None:
    """Log a run that was finished before, if a W&B sweep waits for its metric."""
    if "WANDB_SWEEP_ID" in os.environ:
        log_finished(logger, folder)


SHOWN = ("method", "key", "class_name", "caption", "similarity", "guidance_scale", "strength")
"""Fields of an example that are columns next to its images."""


def class_table(result: Result) -> wandb.Table:
    """A row per class with its test top-1 in percent."""
    import wandb

    rows: list[Any] = [[name, value] for name, value in result.class_accuracy.items()]
    return wandb.Table(columns=["class", "top1"], data=rows)


def example_table(examples: Sequence[Example]) -> wandb.Table:
    """A row per augmented image: its original, and whether a filter kept it."""
    import wandb
    from PIL import Image

    def picture(encoded: bytes) -> wandb.Image:
        return wandb.Image(Image.open(io.BytesIO(encoded)))

    rows: list[Any] = []
    for one in examples:
        original = picture(one.original)
        for image, kept in zip(one.images, one.kept, strict=True):
            rows.append([original, picture(image), kept, *(getattr(one, name) for name in SHOWN)])
    return wandb.Table(columns=["original", "augmented", "kept", *SHOWN], data=rows)


RESULT_FILES = (
    *("result.json", "spec.json", "curves.csv", "report.html"),
    *("predictions.parquet", "examples.parquet", "nearest.parquet"),
)


def log_store(run: wandb.Run, folder: Path, *, upload: bool) -> None:
    """Log a store (`artifacts/generated/<fingerprint>`) as an output of the run."""
    if artifact := store_artifact(folder, upload=upload):
        run.log_artifact(artifact)


def use_store(run: wandb.Run, folder: Path, *, upload: bool) -> None:
    """Log a store as an input of the run, which another run made."""
    if artifact := store_artifact(folder, upload=upload):
        # What `run.use_artifact` does with an artifact that is not on the server yet; but that
        # refuses to offline, and would wait for a server that may be away.
        run._log_artifact(artifact, is_user_created=True, use_after_commit=True)


def store_artifact(folder: Path, *, upload: bool) -> wandb.Artifact | None:
    """The artifact of a store, with its shards where `upload` says so; `None` if it is gone.

    It holds its spec and its manifest, which has the hash of every shard: a few kilobytes that
    identify the images. Equal files are one version of an artifact to W&B, so that all runs that
    use a store point to the same version, whichever of them came first.
    """
    import wandb

    spec_file, manifest_file = folder / "spec.json", folder / "manifest.json"
    if not (spec_file.is_file() and manifest_file.is_file()):
        log.warning("%s is not there any more: W&B gets no artifact of it", folder)
        return None
    spec, manifest = json.loads(spec_file.read_text()), json.loads(manifest_file.read_text())
    kind = spec["kind"]
    metadata = {
        "fingerprint": folder.name,
        "path": str(folder.absolute()),
        "rows": manifest["rows"],
        "spec": spec,
    }
    name = artifact_name(spec.get("method", kind), folder.name)
    artifact = wandb.Artifact(name, type=kind, metadata=metadata)
    shards = [folder / part["file"] for part in manifest["parts"]] if upload else []
    for file in (spec_file, manifest_file, *shards):
        # Never written again: no copy is needed.
        artifact.add_file(str(file.absolute()), policy="immutable", skip_cache=True)
    return artifact


def log_result(run: wandb.Run, result: Result, *, upload: bool) -> None:
    """Log the files of a finished run, with `upload` its best checkpoint too."""
    import wandb

    metadata = {
        "metrics": result.metrics,
        "choices": result.choices,
        "versions": result.versions,
        "commit": result.commit,
    }
    name = artifact_name("result", result.fingerprint)
    artifact = wandb.Artifact(name, type="result", metadata=metadata)
    for file in (result.folder / name for name in RESULT_FILES):
        if file.is_file():
            artifact.add_file(str(file), skip_cache=True)
    run.log_artifact(artifact)
    checkpoint = result.folder / "checkpoints" / "best.ckpt"
    if upload and checkpoint.is_file():
        name = artifact_name("model", result.fingerprint)
        model = wandb.Artifact(name, type="model", metadata=metadata)
        model.add_file(str(checkpoint.absolute()), policy="immutable", skip_cache=True)
        run.log_artifact(model)


def artifact_name(word: str, fingerprint: str) -> str:
    """`sgid-1f3a...`, without the characters that W&B forbids in names."""
    return f"{re.sub(r'[^A-Za-z0-9._-]', '_', word)}-{fingerprint}"
