"""The servers that sets are fetched from, in small: their archives, under their own names."""

from __future__ import annotations

import gzip
import io
import tarfile
import threading
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sgid.data.sources import cub, tiny_imagenet
from tests.data.formats.checksums import md5


def originals(name: str) -> dict[str, tuple[str, str | None]]:
    """Archive -> the folder or file in it, by its path in the set's folder, and its checksum."""
    from torchvision import datasets

    flowers, pets = datasets.Flowers102._file_dict, datasets.OxfordIIITPet._RESOURCES
    return {
        "aircraft": {"fgvc-aircraft-2013b.tar.gz": ("fgvc-aircraft-2013b", None)},
        "caltech101": {
            "caltech-101.zip": (
                "caltech101/101_ObjectCategories",
                "3138e1922a9193bfa496528edbbc45d0",
            )
        },
        "cifar10": {"cifar-10-python.tar.gz": ("cifar-10-batches-py", datasets.CIFAR10.tgz_md5)},
        "cifar100": {"cifar-100-python.tar.gz": ("cifar-100-python", datasets.CIFAR100.tgz_md5)},
        "cub": {"CUB_200_2011.tgz": ("CUB_200_2011", cub.MD5)},
        "dtd": {"dtd-r1.0.1.tar.gz": ("dtd/dtd", datasets.DTD._MD5)},
        "fashion_mnist": {
            file: (f"FashionMNIST/raw/{file}", checksum)
            for file, checksum in datasets.FashionMNIST.resources
        },
        "flowers": {
            "102flowers.tgz": ("flowers-102/jpg", flowers["image"][1]),
            "imagelabels.mat": ("flowers-102/imagelabels.mat", flowers["label"][1]),
            "setid.mat": ("flowers-102/setid.mat", flowers["setid"][1]),
        },
        "food": {"food-101.tar.gz": ("food-101", datasets.Food101._MD5)},
        "pets": {
            "images.tar.gz": ("oxford-iiit-pet/images", pets[0][1]),
            "annotations.tar.gz": ("oxford-iiit-pet/annotations", pets[1][1]),
        },
        "stl10": {"stl10_binary.tar.gz": ("stl10_binary", datasets.STL10.tgz_md5)},
        "tiny_imagenet": {"tiny-imagenet-200.zip": ("tiny-imagenet-200", tiny_imagenet.MD5)},
    }[name]


def pack(source: Path, archive: Path) -> None:
    """The file or folder `source` as the original archive holds it."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    if archive.suffix == ".gz" and source.with_suffix("").is_file():
        archive.write_bytes(gzip.compress(source.with_suffix("").read_bytes()))
    elif source.is_file():
        archive.write_bytes(source.read_bytes())
    elif archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            if "caltech" in archive.name:  # an archive in an archive
                buffer = io.BytesIO()
                with tarfile.open(fileobj=buffer, mode="w:gz") as inner:
                    inner.add(source, source.name)
                file.writestr("caltech-101/101_ObjectCategories.tar.gz", buffer.getvalue())
            else:
                for path in sorted(source.rglob("*")):
                    file.write(path, Path(source.name) / path.relative_to(source))
    else:
        with tarfile.open(archive, "w:gz") as file:
            file.add(source, source.name)


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None: ...


@contextmanager
def home_server(name: str, root: Path, archives: Path) -> Iterator[None]:
    """Serve the set that lies in `root`, packed into `archives`: whatever address is asked for.

    Its archives count as the original ones, with the checksums that they have at this moment.
    """
    from torchvision.datasets import utils

    checksums = {}
    for archive, (content, checksum) in originals(name).items():
        pack(root / content, archives / archive)
        checksums[md5(archives / archive)] = checksum
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(archives)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    real, calculate = urllib.request.urlopen, utils.calculate_md5

    def urlopen(request: urllib.request.Request, *arguments, **options):
        file = request.full_url.rpartition("/")[2]
        there = f"http://127.0.0.1:{server.server_port}/{file}"
        return real(urllib.request.Request(there, headers=dict(request.headers)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(urllib.request, "urlopen", urlopen)
        patch.setattr(
            utils,
            "calculate_md5",
            lambda path, *rest: checksums.get(calculate(path)) or calculate(path),
        )
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
