"""Data flows one way, and help comes at once: both are properties of the imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sgid

ROOT = Path(sgid.__file__).parent

# Each may import those above it and its own. A module belongs to the longest name that fits.
LAYERS = (
    ("sgid",),
    ("sgid.records", "sgid.reproducibility", "sgid.runtime"),
    ("sgid.config",),
    ("sgid.data",),
    ("sgid.models",),
    ("sgid.methods", "sgid.generation", "sgid.training"),
    ("sgid.store",),
    ("sgid.evaluation",),
    ("sgid.reporting",),
    ("sgid.stages",),
    ("sgid.errors",),
    ("sgid.advise", "sgid.cluster", "sgid.human_study", "sgid.prompt_writer", "sgid.review"),
    ("sgid.pipeline",),
    ("sgid.cli",),
    ("sgid.__main__", "sgid.api"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}


def layer(module: str) -> str:
    while module not in RANK:
        module = module.rpartition(".")[0]
    return module


def imported(path: Path) -> set[str]:
    """The modules of this package that a file imports anywhere, type checking excepted."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return {name for name in found if name.split(".")[0] == "sgid"}


def test_every_module_has_a_layer():
    homeless = [name for name in MODULES if name != "sgid" and layer(name) == "sgid"]
    assert not homeless, f"give these a place in LAYERS: {homeless}"
    assert not set(RANK) - set(MODULES)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_flow_one_way(module):
    own = layer(module)
    wrong = [
        other
        for other in imported(MODULES[module])
        if layer(other) != own and RANK[layer(other)] >= RANK[own]
    ]
    assert not wrong, f"{module} imports {wrong}"


def test_there_are_no_cycles():
    graph = {name: imported(path) for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for other in graph[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize(
    "module", ["sgid.cli", "sgid.config.help", "sgid.store.store", "sgid.records"]
)
def test_these_import_nothing_heavy(module):
    heavy = {"torch", "transformers", "diffusers", "open_clip", "timm", "pytorch_lightning"}
    heavy |= {"hydra", "pandas", "pyarrow", "datasets", "matplotlib", "scipy", "wandb"}
    code = f"import sys, {module}; print(*sorted({heavy!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert found.split() == []


def test_what_comes_before_the_first_progress_bar_imports_no_more_than_it_uses():
    """torchvision brings torch._dynamo along, and timm torchvision; the rest is avoidable."""
    late = {"pytorch_lightning", "torchmetrics", "pandas", "datasets", "matplotlib", "scipy.signal"}
    late |= {"transformers", "diffusers", "open_clip"}
    code = (
        "import sys, sgid.pipeline; assert 'torch' not in sys.modules; "
        "from sgid.training.backbones import small_resnet; "
        "small_resnet(class_names='ab', image_size=32, weights=None, seed=0); "
        f"print(*sorted({late!r} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert found.split() == []


def test_a_training_is_quiet_without_the_libraries_of_generation():
    code = (
        "import sys; from sgid.runtime.terminal import quiet; quiet(); "
        "assert not {'torch', 'transformers', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def test_help_imports_nothing_heavy_either():
    code = (
        "import sys; sys.argv = ['run.py', '--help']; from sgid.cli import main; main(); "
        "assert not {'torch', 'transformers', 'diffusers', 'hydra'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
