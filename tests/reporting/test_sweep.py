"""A real Hydra multirun ends with one table, and says which of its jobs failed."""

import shutil
import subprocess
import sys
from pathlib import Path

from omegaconf import OmegaConf

from sgid.reporting.sweep import Job, SweepTable, asked_runs, outcome, read_jobs, sweep_tables

APP = """
import sys
from pathlib import Path
import hydra
from hydra.core.hydra_config import HydraConfig

@hydra.main(version_base="1.3", config_path=None, config_name="config")
def main(config):
    if config.seed == 2:
        raise RuntimeError("out of memory")
    out = Path(HydraConfig.get().runtime.output_dir)
    (out / "result.txt").write_text(f"{config.results}/{config.aug}-{config.seed}")

main()
"""
CONFIG = """
aug: flip_crop
seed: 0
results: null
hydra:
  job: {chdir: false}
  callbacks:
    table: {_target_: sgid.reporting.sweep.SweepTable}
"""
MULTIRUN = """
hydra:
  sweeper:
    _target_: hydra._internal.core_plugins.basic_sweeper.BasicSweeper
    params: {guidance.max: "4,7.5"}
  overrides:
    task: ["seed=range(3)", "aug=[sgid,mixup]"]
"""


def write_job(sweep: Path, number: int, overrides: str = "[]", **files: str) -> Path:
    """The folder of a job as Hydra leaves it, with the text of further files by their names."""
    job = sweep / str(number)
    (job / ".hydra").mkdir(parents=True)
    (job / ".hydra" / "hydra.yaml").write_text(f"hydra: {{job: {{num: {number}}}}}")
    (job / ".hydra" / "overrides.yaml").write_text(overrides)
    for name, text in files.items():
        (job / f"{name}.txt").write_text(text, encoding="utf-8")
    return job


def test_multirun_leaves_a_table(make_run, tmp_path: Path):
    for aug, skill in (("flip_crop", 0.6), ("sgid", 0.7)):
        for seed in (0, 1):
            make_run([aug], seed, skill=skill, folder=tmp_path / "runs" / f"{aug}-{seed}")
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "config.yaml").write_text(CONFIG)
    sweep = tmp_path / "sweep"
    overrides = ["aug=flip_crop,sgid", "seed=0,1,2", f"results={tmp_path / 'runs'}"]
    line = [
        sys.executable,
        "app.py",
        "-m",
        "--config-dir=.",
        *overrides,
        f"hydra.sweep.dir={sweep}",
    ]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        line, cwd=tmp_path, env={"PYTHONPATH": str(root), "COLUMNS": "160"}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert "4 of 6 runs finished" in done.stdout, done.stdout + done.stderr
    markdown = (sweep / "table.md").read_text().replace("\\", "")
    assert markdown.index("| flip_crop |") < markdown.index("| sgid |")
    for aug in ("flip_crop", "sgid"):
        assert f"python run.py --config-dir=. aug={aug} seed=2" in markdown
    assert r"\toprule" in (sweep / "table.tex").read_text()
    assert "<table>" in (sweep / "table.html").read_text()
    assert not list(sweep.glob("matrix.*"))


def test_a_sweep_that_ends_well_prints_once(make_run, tmp_path: Path, capsys, monkeypatch):
    """With two backbones a matrix too."""
    due = []
    monkeypatch.setattr("atexit.register", lambda call, *args: due.append(call))
    monkeypatch.setattr("atexit.unregister", due.remove)
    sweep = tmp_path / "sweep"
    launcher = {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}, "launcher": launcher}})
    for number, backbone in enumerate(("small_resnet", "vit")):
        write_job(sweep, number, result=str(make_run(backbone=backbone).folder))
    callback = SweepTable()
    callback.on_multirun_start(config)
    assert due
    callback.on_multirun_end(config)
    assert not due
    names = sorted(path.name for path in sweep.glob("*.*"))
    ends = ("html", "md", "tex")
    assert names == [f"{name}.{end}" for name in ("matrix", "table") for end in ends]
    header = "| augmentation | small\\_resnet | vit |"
    assert header in (sweep / "matrix.md").read_text()
    printed = capsys.readouterr().out
    assert printed.count("2 of 2 runs finished") == 1
    assert printed.index("2 of 2 runs finished") < printed.index("by augmentation")
    assert str(sweep / "table.md") in printed, "a path is whole in a log"


def test_a_sweep_over_folders_names_them(make_run):
    runs = [
        make_run([aug], root=f"/my photos/{name}", same_images=16 * name[0])
        for name in ("birds", "cats")
        for aug in ("flip_crop", "sgid")
    ]
    jobs = [Job(run.folder, run.overrides, True, run.folder) for run in runs]
    table = sweep_tables(jobs)["table"]
    assert table.headers[:2] == ("augmentation", "images")
    assert [row[1].text for row in table.rows] == ["birds", "birds", "cats", "cats"]
    assert "birds (bbbbbbbb), cats (cccccccc)" in table.notes[-1]


def test_jobs_are_in_order_and_a_lost_result_is_a_failure(make_run, tmp_path: Path):
    for number in (10, 9, 2):
        run = make_run(["sgid"], seed=number)
        overrides = f"- seed={number}\n- aug=[sgid,mixup]"
        write_job(tmp_path / "sweep", number, overrides, result=f"{run.folder}\n")
    shutil.rmtree(run.folder)
    jobs = read_jobs(tmp_path / "sweep")
    assert [job.overrides[0] for job in jobs] == ["seed=2", "seed=9", "seed=10"]
    table = sweep_tables(jobs)["table"]
    assert table.title == "2 of 3 runs finished, 1 failed"
    assert f"{run.folder} has no result.json" in table.notes[0]
    assert "python run.py seed=2 'aug=[sgid,mixup]'" in table.notes[0]


def test_what_became_of_each_job(tmp_path: Path):
    ends = {"error": "no room\n\nTraceback ...", "result": "", "other": ""}
    for number, (name, text) in enumerate(ends.items()):
        write_job(tmp_path, number, f"- seed={number}", **{name: text})
    (tmp_path / "multirun.yaml").write_text(MULTIRUN)
    jobs = read_jobs(tmp_path)
    asked = asked_runs(tmp_path)
    assert len(asked) == 6
    assert asked[0] == ("guidance.max=4", "seed=0", "aug=[sgid,mixup]")
    assert outcome(jobs, 6) == "1 of 6 runs finished, 1 failed, 1 stopped, 3 not run"
    failed, stopped = (job.note for job in jobs if not job.finished)
    assert failed.startswith("Failed: no room. Again: python run.py seed=0 (log in ")
    assert stopped.startswith("Stopped or killed. Again: python run.py seed=2 (log in ")
    assert sweep_tables(jobs, 6)["table"].title == outcome(jobs, 6)


def test_a_reason_that_names_a_strangers_file_commands_no_terminal(tmp_path: Path):
    write_job(tmp_path, 0, error="bad\x1b[2J\x9b.png\n\nTraceback ...")
    write_job(tmp_path, 1, result="gone\x1b[2J")
    failed, lost = read_jobs(tmp_path)
    assert failed.reason == r"bad\x1b[2J\x9b.png"
    assert r"gone\x1b[2J has no result" in lost.note


def test_only_its_sweeper_knows_how_many_trials_a_search_has(tmp_path: Path):
    assert asked_runs(tmp_path) == []
    (tmp_path / "multirun.yaml").write_text(MULTIRUN.replace("BasicSweeper", "OptunaSweeper"))
    assert asked_runs(tmp_path) == []


def test_a_sweep_of_which_no_job_began_has_a_table():
    assert sweep_tables([], 6)["table"].title == "0 of 6 runs finished, 6 not run"
