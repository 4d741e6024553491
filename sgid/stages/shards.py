"""Captions and images, shard by shard: those that no other process is at, whoever asks for them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Any

from tqdm import tqdm

from sgid.data.image_set import ImageSet
from sgid.generation.rows import to_row
from sgid.methods.describe import describe
from sgid.methods.requests import Plan
from sgid.models.loader import Models
from sgid.records import Request, Sample
from sgid.runtime.files import PATIENCE
from sgid.runtime.terminal import progress
from sgid.runtime.threads import THREADS, Behind, ahead, together
from sgid.stores.claims import Claim, Claims
from sgid.stores.store import Store

PIECE = 64
"""Originals that are captioned at a time: photographs take some 30 MB each, decoded."""


def describe_shards(
    store: Store, images: ImageSet, models: Models, shards: Sequence[int] | None = None
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
                yield claim, list(together(images.__getitem__, piece))

    with (
        _claimed("caption", store, shards) as (claims, bar),
        closing(ahead(pieces(claims))) as decoded,
        Behind(1, waiting=1) as writer,
    ):
        rows = []
        for claim, samples in decoded:
            if claim is None:
                _wait(bar)
                continue
            for described in describe(samples, models.captioner, models.exact_scorer):
                rows.append(asdict(described))
                bar.update()
            writer.wait()
            if len(rows) == len(claim.rows):
                writer.call(claim.write, rows)
                rows = []


def generate_shards(
    store: Store, plan: Plan, models: Models, shards: Sequence[int] | None = None, *, format: str
) -> None:
    """Draw `shards`, or all; what is there or being made elsewhere is left alone.

    The engine draws in this thread; requests are made ahead of it, and rows behind it. Returns when
    all of them are there. What is lost with the process is the shard being drawn, and the one
    before it while its file is written.
    """
    with (
        _claimed(plan.recipe.method, store, shards) as (claims, bar),
        closing(ahead((one, plan.requests(one.rows) if one else []) for one in claims)) as prepared,
        Behind(THREADS, waiting=4 * THREADS) as encoder,
        Behind(1, waiting=1) as writer,
    ):
        for claim, requests in prepared:
            if claim is None:
                _wait(bar)
                continue
            rows: dict[tuple[str, int], Future[dict[str, Any]]] = {}
            for generated in models.generator.generate(requests):
                rows[_which(generated.request)] = encoder.call(to_row, generated, format=format)
                bar.update()
                writer.wait()  # the shard before this one; a full disk is told now
            writer.call(_write, claim, [_which(request) for request in requests], rows)


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
    """For the shards that are being made by other processes."""
    bar.set_postfix_str("waiting for another process")
    time.sleep(PATIENCE)
    bar.set_postfix_str("", refresh=False)
