"""No data is ever run as code: what could do so is not called anywhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.safety.sources import FILES

# What unpickles, or runs text. The processes of one training talk to each other in pickles, as
# Python's own do: from memory to memory, never from a file.
FORBIDDEN = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"}
MAY = {("sgid/training/distributed.py", "pickle")}
CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
ATTRIBUTES = {"os.system", "os.popen", "os.execv", "os.execvp", "torch.hub.load"}
ATTRIBUTES |= {"yaml.unsafe_load", "yaml.full_load", "pd.read_pickle", "pandas.read_pickle"}
ATTRIBUTES |= {"torch.hub.load_state_dict_from_url", "torch.jit.load", "torch.package"}
YAML = {"yaml.SafeLoader", "yaml.BaseLoader"}  # the second makes nothing but text
EXTRACTS = {"extractall", "unpack_archive"}
LOADS = {"from_pretrained", "from_single_file"}


def wrong(file: Path, tree: ast.Module) -> list[str]:
    """What is in a file that should not be: a line each."""
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found += [name.name for name in names if name.name.split(".")[0] in FORBIDDEN]
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in FORBIDDEN:
                names = {name.name for name in node.names}
                # The error alone is named, to tell a damaged file.
                found += [module] if names != {"UnpicklingError"} else []
            case ast.Call(func=ast.Name(id=name)) if name in CALLS:
                found.append(f"{name}()")
            case ast.Call():
                name = ast.unparse(node.func)
                # The experiments load what this project made, or what their caller trusts.
                found += _call(name, node, _needed(name) if file.parts[0] == "sgid" else {})
    return [one for one in found if (file.as_posix(), one) not in MAY]


def _call(name: str, node: ast.Call, needed: dict[str, str]) -> list[str]:
    given = {word.arg: ast.unparse(word.value) for word in node.keywords}
    last = name.rpartition(".")[2]
    rules = {
        name: name in ATTRIBUTES,
        "torch.load": name == "torch.load" and given.get("weights_only") != "True",
        "ckpt_path": "ckpt_path" in given and given.get("weights_only") != "True",
        "yaml.load": name == "yaml.load" and given.get("Loader") not in YAML,
        "allow_pickle": given.get("allow_pickle", "False") != "False",
        "shell": given.get("shell", "False") != "False",
        "trust_remote_code": given.get("trust_remote_code", "False") != "False",
        "use_safetensors": given.get("use_safetensors", "True") != "True",
        **{f"{key}={value}": given.get(key) != value for key, value in needed.items()},
        "extract": last in EXTRACTS and given.get("filter") != "'data'",
    }
    return [f"{name}: {rule}" for rule, broken in rules.items() if broken]


def _needed(name: str) -> dict[str, str]:
    """What a loader of models is to be told: it may read pickles; an `Auto...` may run modules."""
    *_, kind, last = ["", *name.split(".")]
    if last not in LOADS:
        return {}
    needed = {"trust_remote_code": "False"} if re.match("Auto[A-Z]", kind) else {}
    if not re.search("Processor|Tokenizer|[Cc]onfig", kind):  # these have no weights
        needed["use_safetensors"] = "True"
    return needed


@pytest.mark.parametrize("file", sorted(FILES), ids=str)
def test_no_data_is_run(file):
    assert wrong(file, FILES[file]) == []


@pytest.mark.parametrize(
    "code",
    [
        *("import pickle", "from pickle import loads", "import joblib.numpy_pickle"),
        *("eval('1')", "exec(text)", "compile(a, b, 'exec')", "os.system('id')"),
        *(
            "torch.load(f)",
            "torch.load(f, weights_only=False)",
            "yaml.load(f)",
            "yaml.load(f, yaml.Loader)",
        ),
        *("np.load(f, allow_pickle=True)", "subprocess.run('a', shell=True)"),
        *("M.from_pretrained(f)", "AutoProcessor.from_pretrained(f)", "kind.from_single_file(f)"),
        "AutoModel.from_pretrained(f, use_safetensors=True)",
        *("M.from_pretrained(f, trust_remote_code=True)", "M.load(f, use_safetensors=False)"),
        *("tar.extractall(f)", "trainer.fit(a, ckpt_path=p)", "torch.hub.load('a', 'b')"),
    ],
)
def test_the_test_would_see_it(code):
    assert wrong(Path("sgid/new.py"), ast.parse(code))


def test_what_may_is_still_there():
    for name, module in MAY:
        assert f"import {module}" in ast.unparse(FILES[Path(name)]), "take it out of MAY"
