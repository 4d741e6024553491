"""Reader of the one file that W&B writes of an offline run."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BLOCK = 32768


@dataclass(frozen=True)
class Written:
    """The records of an offline run, by what they say."""

    records: list[Any]

    @property
    def run(self) -> Any:
        """Name, group, tags ... as they were in the end."""
        return self.of("run")[-1]

    @property
    def config(self) -> dict[str, Any]:
        updates = [self.of("run")[0].config, *self.of("config")]
        return {key: value for update in updates for key, value in flat(update.update).items()}

    @property
    def history(self) -> list[dict[str, Any]]:
        return [flat(row.item) for row in self.of("history")]

    @property
    def media(self) -> dict[str, Any]:
        return {key: value for row in self.history for key, value in row.items()}

    @property
    def summary(self) -> dict[str, Any]:
        return {key: v for one in self.of("summary") for key, v in flat(one.update).items()}

    @property
    def artifacts(self) -> dict[str, Any]:
        """All but those that W&B itself makes of tables."""
        return {one.name: one for one in self.of("artifact") if one.type != "run_table"}

    @property
    def exit_code(self) -> int:
        return self.of("exit")[0].exit_code

    def files(self, artifact: str) -> list[str]:
        return sorted(one.path for one in self.artifacts[artifact].manifest.contents)

    def of(self, kind: str) -> list[Any]:
        return [getattr(one, kind) for one in self.records if one.WhichOneof("record_type") == kind]


def read_back(folder: Path) -> Written:
    """The one offline run of a result folder.

    `finish()` may return before W&B's own process has written the last of it.
    """
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    for _ in range(100):
        read = list(_records(path))
        if read and read[-1].WhichOneof("record_type") == "exit":
            return Written(read)
        time.sleep(0.1)
    raise AssertionError(f"{path} was not written to its end")


def _records(path: Path) -> Iterator[Any]:
    """The records of a `.wandb` file: LevelDB's log format behind a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, record = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        if place + 7 + length > len(data):  # not written to its end yet
            return
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(record)
            record = b""


def flat(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
