"""`stage=augment`: caption, score, and re-draw the training images, into content-addressed stores.

A described store depends on the images, the captioner and the scorer alone; a generated store on a
described store (or, for methods without captions, on the images) and on the method. So a sweep
captions once, and all backbones share one set of generated images. Both are made shard by shard,
skipping the shards that another process is making.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from sgid.data.captions import OPTION as CAPTIONS
from sgid.data.dataset import Dataset
from sgid.data.image_set import ImageSet
from sgid.data.shrink import shrunk
from sgid.evaluation.features import class_features, image_features
from sgid.evaluation.filters import confusable
from sgid.generation.hooks import LatentState
from sgid.methods.describe import PLACES, OwnCaptions, describe
from sgid.methods.method import Method
from sgid.methods.prompts import OF_CLASSES, by_class, fields
from sgid.methods.requests import RequestPlan, Undescribed, class_counts, repeat_counts
from sgid.methods.strength import extremes
from sgid.models.loader import Models
from sgid.records import Generated, Request, Sample
from sgid.reproducibility import CODE, fingerprint
from sgid.runtime.files import PATIENCE, file_lock, write_atomic
from sgid.runtime.terminal import progress
from sgid.runtime.threads import THREADS, BackgroundWriter, parallel_map, prefetch
from sgid.stages.estimate import RATES, Rate, announce, denoising_steps
from sgid.stages.first_look import look_at_captions, look_first
from sgid.stages.prompt_length import check_prompts
from sgid.store.claims import Claim, Claims
from sgid.store.integrity import invalidate_corrupt_shards
from sgid.store.store import Store
from sgid.store.tables import StoredDescriptions, schema, to_row

if TYPE_CHECKING:
    from sgid.models.blip import Captioner

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GenerationSettings:
    """The options of generation that all methods of a run share.

    `resolution`, `size_multiple` and `size`, of the shorter side of what is kept, are in pixels;
    `verify` hashes every shard that is there; `strict` makes an error of every remark; `captions`
    is the use of captions that come with the images, one of `sgid.data.captions.HOW`, or `None`.
    """

    artifacts: Path
    expansion: int
    steps: int
    seed: int
    resolution: int
    size_multiple: int
    shard_size: int
    format: str
    size: int | None
    verify: bool
    strict: bool
    captions: str | None = None


@dataclass(frozen=True)
class Augmentation:
    """One generative method over one training set, and the stores that hold its results."""

    method: Method
    dataset: Dataset
    models: Models
    settings: GenerationSettings

    def __post_init__(self) -> None:
        name, names = self.method.name, self.dataset.class_names
        for option in ("prompt", "negative_prompt"):
            pool, lacking = by_class(getattr(self.method, option), names)
            if lacking:
                raise ValueError(
                    f"aug.{name}.{option} has no prompts for {_few(lacking)}: its file needs a "
                    "list of each class, by its name"
                )
            object.__setattr__(self, "method", replace(self.method, **{option: pool}))
            for field in sorted((fields(pool) & set(OF_CLASSES)) - {"confusable"}):
                self._require(field, f"aug.{name}.{option}")
        counts = class_counts(self.dataset.train)
        if short := [
            names[i] for i in np.flatnonzero((counts > 0) & (counts < self.method.fewest))
        ]:
            raise ValueError(
                f"aug={name} needs {self.method.fewest} training images of each class, and "
                f"{_few(short)} {'has' if len(short) == 1 else 'have'} fewer: raise dataset.shots, "
                "or take another method"
            )
        if not repeat_counts(self.method, self.dataset.train, self.settings.expansion).any():
            raise ValueError(
                f"aug.{name}.budget leaves no image to generate for {counts.sum():,} training "
                "images: raise its total"
            )
        if self.settings.captions == "own" and self.method.needs_captions:
            self._require_captions()

    def _require_captions(self) -> None:
        keys = self.dataset.train.keys
        if bare := [key for key in keys if key not in self.dataset.captions]:
            raise ValueError(
                f"{CAPTIONS}=own: {len(bare):,} of {len(keys):,} training images have no caption, "
                f"as {bare[0]}: write {Path(bare[0]).with_suffix('.txt')}, or a row of "
                f"metadata.csv (file_name, text); {CAPTIONS}=join takes the captioner's where "
                "there is none"
            )

    def _require(self, field: str, option: str) -> None:
        by_class = zip(self.dataset.class_names, self.dataset.words[field], strict=True)
        if lacking := [name for name, text in by_class if not text]:
            raise ValueError(
                f"{option} has {{{field}}}, which {_few(lacking)} lack: "
                f"dataset.classes=FILE gives it (YAML, of each class a line `name: {{words: ..., "
                f"{field}: ...}}`)"
            )

    @property
    def complete(self) -> bool:
        return self.generated.complete

    @property
    def stores(self) -> dict[str, Store]:
        """Stores by what they hold, in the order in which they are made."""
        described = {"captions": self.described} if self.described else {}
        return {**described, self.method.name: self.generated}

    @cached_property
    def described(self) -> Store | None:
        """Captions and their similarities, where the method needs them."""
        import pyarrow as pa

        if not self.method.needs_captions:
            return None
        text, texts, reals = pa.string(), pa.list_(pa.string()), pa.list_(pa.float64())
        columns = {
            "key": text,
            "label": pa.int64(),
            "class_name": text,
            "caption": text,
            "similarity": pa.float64(),
            "candidates": texts,
            "scores": reals,
        }
        settings, images = self.settings, self.dataset.train
        spec = {
            "kind": "described",
            "code": CODE,
            "images": images.digest(),
            "scores": f"{PLACES} decimals",
            "scorer": self.models.identity("exact_scorer"),
            "shard_size": settings.shard_size,
        }
        if settings.captions != "own":
            spec["captioner"] = self.models.identity("captioner")
        if settings.captions:
            given = [self.dataset.captions.get(key) for key in images.keys]
            spec["own_captions"] = {"use": settings.captions, "content": fingerprint(given)}
        columns_schema = pa.schema(columns.items())
        place = settings.artifacts / "described"
        return Store(place, spec, columns_schema, len(images), settings.shard_size)

    @cached_property
    def generated(self) -> Store:
        settings, method, images = self.settings, self.method, self.dataset.train
        spec = {
            "kind": "generated",
            "code": CODE,
            **self._source,
            "method": method.name,
            **method.spec,
            "engine": self.models.identity("generator"),
            "steps": settings.steps,
            "expansion": settings.expansion,
            "seed": settings.seed,
            "shard_size": settings.shard_size,
            "format": settings.format,
        }
        used = method.fields
        if "label" in used:
            spec["noun"] = self.dataset.nouns
        if "confusable" in used or method.select is not None:
            spec["scorer"], spec["phrases"] = (
                self.models.identity("scorer"),
                [*self.dataset.phrases],
            )
        for name in sorted(used & {"superclass", "description"}):
            spec[name] = list(self.dataset.words[name])
        if settings.size is not None:
            spec["size"] = settings.size
        spec |= self._further_models
        if method.from_image or self._further_models:
            spec["size_multiple"] = settings.size_multiple
        if self.artifact is not None:
            spec["artifact"] = self.artifact.name
        columns = schema(
            targets=method.target is not None or method.changes is not None,
            negatives=bool(method.negative_prompt),
            adapters=method.adapters is not None,
            selected=method.select is not None,
            image_prompts=method.image_prompt is not None,
            edges=method.edges is not None,
            edited=method.image_guidance is not None,
            changed=method.changes is not None,
        )
        rows = int(repeat_counts(method, images, settings.expansion).sum())
        return Store(settings.artifacts / "generated", spec, columns, rows, settings.shard_size)

    @cached_property
    def _further_models(self) -> dict[str, Any]:
        """The identity of what the method draws with beside the generator, by its option."""
        used = {"ip_adapter": self.method.image_prompt, "controlnet": self.method.edges}
        return {name: self.models.conditioning(name) for name, part in used.items() if part}

    @property
    def _source(self) -> dict[str, str]:
        if self.described is not None:
            return {"described": self.described.folder.name}
        return {"images": self.dataset.train.digest()}

    @cached_property
    def artifact(self) -> Path | None:
        """The folder of what the method prepares from the training images, if it does."""
        if self.method.prepare is None:
            return None
        spec = {
            "kind": "prepared",
            "code": CODE,
            "images": self.dataset.train.digest(),
            "phrases": list(self.dataset.phrases),
            "prepare": self.method.spec["prepare"],
            # Not of the captioner that another method of the run may need.
            "models": {
                name: self.models.identity(name)
                for name in ("captioner", "generator", "scorer")
                if name != "captioner" or self.method.needs_captions
            },
            "seed": self.settings.seed,
        }
        return self.settings.artifacts / "prepared" / fingerprint(spec)

    def check_preparation(self) -> str | None:
        """A line about what is to be prepared; `None` where there is nothing to say.

        Raises:
            ValueError: for what would make it fail.
        """
        check = getattr(self.method.prepare, "check", None)
        if self.artifact is None or check is None or (self.artifact / PREPARED).is_file():
            return None
        option = f"aug.{self.method.name}.prepare"
        return check(self.dataset.train, self.dataset.phrases, self.models, option=option)

    def repair(self) -> bool:
        """Invalidate the damaged shards of the stores; whether anything is to be made."""
        for store in self.stores.values():
            for name in invalidate_corrupt_shards(store, everything=self.settings.verify):
                log.warning("%s is damaged: it is made again", store.folder / name)
        described = self.described
        # Captions that somebody removed are not missed; damaged ones are made again.
        whole = described is None or described.complete or not described.folder.is_dir()
        return not (self.complete and whole)

    def make(self) -> None:
        """Make what is missing of the stores. Safe to kill and to run again."""
        if not self.repair():
            return
        plan = self.plan()
        if not self.complete:
            look = None if self.begun else self.look
            self.check_prompts(plan)
            self._estimate(plan)
            generate_shards(
                self.generated, plan, self.models,
                format=self.settings.format, size=self.settings.size,
                look=look, on_shard=partial(self._note_rate, plan),
            )  # fmt: skip
            self.generated.finish()

    @property
    def rate(self) -> Rate:
        """Of a denoising step of one image, all that the method does beside it included."""
        file, spec = self.settings.artifacts / RATES, self.method.spec
        more = {part: spec[part] for part in ("select", "on_latents", "changes") if part in spec}
        generator = {**self.models.identity("generator"), **self._further_models, **more}
        return Rate(file, generator, self.models.device)

    @property
    def caption_rate(self) -> Rate:
        """Of the captions of one image, with their scores."""
        own = self.settings.captions == "own"  # then there is no captioner
        names = ["exact_scorer"] if own else ["captioner", "exact_scorer"]
        models = {name: self.models.identity(name) for name in names}
        return Rate(self.settings.artifacts / RATES, models, self.models.device)

    def seconds(self) -> float | None:
        """Time that the stores take from nothing, as measured here before; `None` where nothing
        was.

        Learning a method's artifact is not counted.
        """
        total, each = 0.0, self.rate.read()
        if self.described is not None:
            if (caption := self.caption_rate.read()) is None:
                return None
            total += self.described.rows * caption
        if each is None:
            return None
        strengths = extremes(self.method.spec["strength"]) if self.method.from_image else [1.0]
        per_image = np.mean([int(self.settings.steps * one) for one in strengths or [1.0]])
        return total + self.generated.rows * float(per_image) * each

    def _estimate(self, plan: RequestPlan) -> None:
        settings, rows = self.settings, _rows_missing(self.generated)
        announce(
            plan, rows, self.rate, settings.artifacts,
            steps=settings.steps, format=settings.format, size=settings.size,
        )  # fmt: skip

    def _note_rate(self, plan: RequestPlan, images: int, seconds: float) -> None:
        self.rate.note(images * denoising_steps(plan, self.settings.steps), seconds)

    def check_prompts(self, plan: RequestPlan) -> None:
        """Warn of captions that are all the same, and of prompts that the generator would cut.

        See `sgid.stages.first_look` and `sgid.stages.prompt_length`.
        """
        if self.described is not None:
            columns = (table["caption"] for table in self.described.tables(["caption"]))
            captions = [caption for column in columns for caption in column.to_pylist()]
            look_at_captions(captions, strict=self.settings.strict)
        generator = self.models.weights["models.generator"].folder
        known = self.models.settings
        toy = known.knows is not None and self.dataset.name not in known.known
        check_prompts(plan, generator, strict=self.settings.strict, toy=toy)

    @property
    def begun(self) -> bool:
        """Whether any images are there."""
        return len(self.generated.missing()) < self.generated.shards

    def look(self, images: Sequence[Generated]) -> None:
        """Judge the generator by the first images of a process."""
        drawn = [one.image for one in images]
        look_first(drawn, self.dataset, self.models, strict=self.settings.strict)

    def plan(self) -> RequestPlan:
        """All requests; captions and the artifact are made first, where they are missing."""
        images, settings = self.dataset.train, self.settings
        if self.described is None:
            described, similarities = Undescribed(images), np.full(len(images), np.nan)
        else:
            if not self.described.complete:
                _ = self.captioner, self.models.exact_scorer  # loading them is no part of the rate
                started, missing = time.perf_counter(), _rows_missing(self.described)
                describe_shards(self.described, images, self.models, self.captioner)
                self.caption_rate.note(missing, time.perf_counter() - started)
                self.described.finish()
            described = StoredDescriptions(
                self.described, caption=self.method.caption, seed=settings.seed
            )
            similarities = described.similarities()
        return RequestPlan(
            images=images,
            described=described,
            similarities=similarities,
            method=self.method,
            words=self._words(),
            expansion=settings.expansion,
            seed=settings.seed,
            resolution=settings.resolution,
            multiple=settings.size_multiple,
            artifact=self.prepared(),
        )

    def _words(self) -> dict[str, Sequence[str]]:
        """Words that prompts say of each class, by field."""
        words: dict[str, Sequence[str]] = {**self.dataset.words}
        if "confusable" in self.method.fields:
            data, models, artifacts = self.dataset, self.models, self.settings.artifacts
            vectors = image_features(data.train, models, artifacts).vectors
            names = class_features(data, models, artifacts)
            taken_for = confusable(vectors, np.asarray(data.train.labels), names)
            words["confusable"] = [data.phrases[other] for other in taken_for]
        return words

    @property
    def captioner(self) -> Captioner:
        """The source of the candidate captions of the training images."""
        how = self.settings.captions
        written = None if how == "own" else self.models.captioner
        return OwnCaptions(self.dataset.captions, written) if how else self.models.captioner

    def prepared(self) -> Path | None:
        """The artifact, made if it is not whole; another process that makes it is waited for."""
        if self.artifact is None:
            return None
        assert self.method.prepare is not None
        done = self.artifact / PREPARED
        if not done.is_file():
            self.artifact.mkdir(parents=True, exist_ok=True)
            waiting = partial(log.info, "another process prepares %s: waiting", self.artifact)
            with file_lock(self.artifact / ".lock", on_wait=waiting):
                if not done.is_file():
                    data, seed = self.dataset, self.settings.seed
                    self.method.prepare(
                        data.train, data.phrases, self.models, self.artifact, seed=seed
                    )
                    said = {"prepare": self.method.spec["prepare"]}
                    write_atomic(done, json.dumps(said).encode())
        return self.artifact


def _rows_missing(store: Store) -> int:
    return sum(len(store.range(shard)) for shard in store.missing())


PREPARED = "prepared.json"
"""The file that is in an artifact when it is whole."""

PIECE = 64
"""Originals that are captioned at a time: photographs take some 30 MB each, decoded."""


def describe_shards(
    store: Store,
    images: ImageSet,
    models: Models,
    captioner: Captioner,
    shards: Sequence[int] | None = None,
) -> None:
    """Caption and score `shards`, or all; what is there or being made elsewhere is left alone.

    Returns when all of them are there.
    """

    def pieces(claims: Claims) -> Iterator[tuple[Claim | None, list[Sample]]]:
        for claim in claims:
            if claim is None:
                yield None, []
                continue
            for start in range(0, len(claim.rows), PIECE):
                piece = claim.rows[start : start + PIECE]
                yield claim, list(parallel_map(images.__getitem__, piece))

    with (
        _claimed("caption", store, shards) as (claims, bar),
        closing(prefetch(pieces(claims))) as decoded,
        BackgroundWriter(1, waiting=1) as writer,
    ):
        rows = []
        for claim, samples in decoded:
            if claim is None:
                _wait(bar)
                continue
            for described in describe(samples, captioner, models.exact_scorer):
                rows.append(asdict(described))
                bar.update()
            writer.wait()
            if len(rows) == len(claim.rows):
                writer.call(claim.write, rows)
                rows = []


LOOKED_AT = 128
"""Generated images that are judged before the others are drawn, at most."""


def generate_shards(
    store: Store,
    plan: RequestPlan,
    models: Models,
    shards: Sequence[int] | None = None,
    *,
    format: str,
    size: int | None = None,
    look: Callable[[Sequence[Generated]], None] | None = None,
    on_shard: Callable[[int, float], None] = lambda images, seconds: None,
) -> None:
    """Draw `shards`, or all; what is there or being made elsewhere is left alone.

    `look` is called with the first images of this process, up to `LOOKED_AT`, after its first
    shard, and `on_shard` with the number of images of each shard and the seconds that they took.
    The shorter side of what is kept has at most `size` pixels. The engine draws in this thread;
    requests are made ahead of it, and rows behind it.
    Returns when all of them are there. What is lost with the process is the shard being drawn, and
    the one before it while its file is written.
    """
    with (
        _claimed(plan.method.name, store, shards) as (claims, bar),
        closing(
            prefetch((one, plan.requests(one.rows) if one else []) for one in claims)
        ) as prepared,
        BackgroundWriter(THREADS, waiting=4 * THREADS) as encoder,
        BackgroundWriter(1, waiting=1) as writer,
    ):
        for claim, requests in prepared:
            if claim is None:
                _wait(bar)
                continue
            rows: dict[tuple[str, int], Future[dict[str, Any]]] = {}
            first: list[Generated] = []
            started = time.perf_counter()
            for generated in drawn(requests, plan, models):
                row = encoder.call(_row, generated, plan, format, size)
                rows[_which(generated.request)] = row
                if look and len(first) < LOOKED_AT:
                    first.append(generated)
                bar.update()
                writer.wait()  # the shard before this one; a full disk is told now
            writer.call(_write, claim, [_which(request) for request in requests], rows)
            on_shard(len(requests), time.perf_counter() - started)
            if look:
                look(first)
                look = None


def drawn(requests: Sequence[Request], plan: RequestPlan, models: Models) -> Iterator[Generated]:
    """The images of requests, in any order, as the method's hook and its selection have them."""
    hook, engine = _latent_hook(plan, models), models.generator
    if (select := plan.method.select) is None:
        return engine.generate(requests, hook)
    return select(requests, lambda some: engine.generate(some, hook), plan, models)


def _latent_hook(plan: RequestPlan, models: Models) -> Any:
    if (hook := plan.method.on_latents) is None:
        return None

    def call(state: LatentState) -> Any:
        return hook(replace(state, features=models.scorer.features), plan.artifact)

    return call


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def _row(generated: Generated, plan: RequestPlan, format: str, size: int | None) -> dict[str, Any]:
    if (hook := plan.method.on_pixels) is not None:
        image = hook(generated.image, generated.request, plan.artifact)
        generated = replace(generated, image=image)
    kept = shrunk(generated.image, size)
    return to_row(replace(generated, image=kept), format=format)


def _write(
    claim: Claim,
    order: list[tuple[str, int]],
    rows: dict[tuple[str, int], Future[dict[str, Any]]],
) -> None:
    """Write the rows of a shard, once they are made, in the order of its requests."""
    assert rows.keys() == set(order), f"shard {claim.shard}: other images came than were asked for"
    claim.write([rows[one].result() for one in order])


def _which(request: Request) -> tuple[str, int]:
    return request.described.key, request.repeat


@contextmanager
def _claimed(
    what: str, store: Store, shards: Sequence[int] | None
) -> Iterator[tuple[Claims, tqdm]]:
    """The shards to make, and a bar of the whole store, which counts what others make as well."""

    def made_elsewhere(shard: int) -> None:
        bar.update(len(store.range(shard)))

    with (
        Claims(store, shards, elsewhere=made_elsewhere) as claims,
        progress(what, store.rows, "images", done=store.rows - claims.rows) as bar,
    ):
        yield claims, bar


def _wait(bar: tqdm) -> None:
    """Wait for the shards that are being made by other processes."""
    bar.set_postfix_str("waiting for another process")
    time.sleep(PATIENCE)
    bar.set_postfix_str("", refresh=False)
