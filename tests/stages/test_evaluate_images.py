"""What `evaluation.images` may be given, and what is said of what holds no images."""

from __future__ import annotations

import json
import os
import threading

from sgid.stages.evaluate_images import _no_images


def test_a_folder_of_stores_names_them_whatever_lies_beside_them(tmp_path):
    specs = {
        "store": json.dumps({"kind": "generated"}),
        "captions": json.dumps({"kind": "described"}),
        "list": "[1]",
        "broken": "{",
        "deep": "[" * 100_000,
    }
    for name, text in specs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "spec.json").write_text(text)
    (tmp_path / "bytes").mkdir()
    (tmp_path / "bytes" / "spec.json").write_bytes(b"\xff\xfe\x00")
    assert _no_images(tmp_path) == "holds stores: give one of them (store), or several with -m"
    (tmp_path / "store" / "spec.json").unlink()
    assert _no_images(tmp_path) is None


def test_a_pipe_in_place_of_a_spec_is_not_waited_for(tmp_path):
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / "spec.json")
    said = []
    thread = threading.Thread(target=lambda: said.append(_no_images(tmp_path)), daemon=True)
    thread.start()
    thread.join(10)  # it would wait for ever
    assert said == [None]
