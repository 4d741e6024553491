"""The bundled models and images, loaded once for all tests that ask for them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"  # before any hub library is imported

# A test must not fail because the machine is busy.
settings.register_profile("sgid", deadline=None, max_examples=50)
settings.load_profile("sgid")

MODELS = Path(str(files("sgid") / "assets" / "models"))

CACHES = ("HF_HOME", "HF_HUB_CACHE", "MPLCONFIGDIR", "TORCH_HOME", "XDG_CACHE_HOME")
FOLDERS = pytest.StashKey[tuple[Path, Path]]()
LEFT = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Give the session a temporary folder and a home of its own, both empty.

    The processes of pytest-xdist inherit them; pytest's own folders stay where they always are.
    """
    if hasattr(config, "workerinput"):
        return
    with suppress(ImportError):
        from xdist.workermanage import NodeManager

        # Killed sooner on a busy machine, a process leaves the folders that it removes as it ends.
        NodeManager.EXIT_TIMEOUT = 120
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    temporary, home = (Path(tempfile.mkdtemp(prefix=name)) for name in ("sgid-", "sgid-home-"))
    config.stash[FOLDERS] = temporary, home
    for name in CACHES:
        os.environ.pop(name, None)
    os.environ |= {"TMPDIR": str(temporary), "HOME": str(home)}
    # Importing torch._dynamo makes this folder, by default in the temporary one.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(home / "torchinductor")
    tempfile.tempdir = None  # read TMPDIR again


@pytest.hookimpl(trylast=True)  # after the processes of pytest-xdist have ended
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session if its tests left something in the temporary folder.

    Only `-n` can tell: else this process has run them, and has folders there until it ends. The
    slow tests kill processes, and those cannot remove what they made there.
    """
    if FOLDERS not in session.config.stash:
        return
    temporary, home = session.config.stash[FOLDERS]
    alone = not session.config.pluginmanager.has_plugin("dsession")
    if not alone and session.config.option.markexpr == "not slow":
        session.config.stash[LEFT] = left = sorted(path.name for path in temporary.iterdir())
        if left and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    for folder in (temporary, home):
        shutil.rmtree(folder, ignore_errors=True)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if left := config.stash.get(LEFT, []):
        terminalreporter.section("left in the temporary folder", red=True)
        terminalreporter.line("\n".join(left))


@pytest.fixture
def killed_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A temporary folder for processes that are killed, and cannot remove what they made there."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(scope="module")  # its event loop is in the way of others'
def browser() -> Iterator[Any]:
    """A headless Chromium, driven by Playwright; tests are skipped where either is lacking."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    if path is None:
        pytest.skip("no chromium or google-chrome installed")
    with playwright.sync_playwright() as driver:
        # Not the sandbox: tests run as root in containers.
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def fashion() -> Any:
    """24 of the bundled training images as an `ImageSet`, of all classes."""
    from sgid.data.sources.bundled import fashion

    listing = fashion().train
    count = len(listing.keys)
    return listing.images(listing.stamps).select(range(0, count, count // 24)[:24])


@pytest.fixture(scope="session")
def make_captioner() -> Callable[..., Any]:
    """`make_captioner(candidates=3)`: a fresh captioner with the bundled weights."""
    import torch

    from sgid.models.blip import BlipCaptioner
    from sgid.runtime.terminal import quiet_generation

    quiet_generation()

    def make(**options: Any) -> BlipCaptioner:
        settings = {"candidates": 4, "top_p": 0.9, "max_tokens": 12, "seed": 0, "batch_size": 16}
        place = {"device": torch.device("cpu"), "dtype": torch.float32}
        return BlipCaptioner(MODELS / "blip", **{**settings, **place, **options})

    return make


@pytest.fixture(scope="session")
def make_scorer() -> Callable[..., Any]:
    """`make_scorer(batch_size=3)`: a fresh scorer with the bundled weights."""
    import torch

    from sgid.models.clip import OpenClipScorer
    from sgid.runtime.terminal import quiet_generation

    quiet_generation()

    def make(batch_size: int = 16) -> OpenClipScorer:
        place = {"device": torch.device("cpu"), "dtype": torch.float64}
        return OpenClipScorer(MODELS / "clip", batch_size=batch_size, **place)

    return make


@pytest.fixture(scope="session")
def make_engine() -> Callable[..., Any]:
    """`make_engine(scheduler="DDIMScheduler")`: a fresh engine with the bundled weights."""
    import torch

    from sgid.generation.stable_diffusion import StableDiffusionEngine
    from sgid.runtime.terminal import quiet_generation

    quiet_generation()

    def make(**options: Any) -> StableDiffusionEngine:
        settings = {"steps": 6, "resolution": 32, "batch_size": 16}
        settings |= {"scheduler": "DPMSolverMultistepScheduler"}
        place = {"device": torch.device("cpu"), "dtype": torch.float32}
        return StableDiffusionEngine(MODELS / "sd", **{**settings, **place, **options})

    return make
