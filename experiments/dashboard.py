"""The W&B workspace and report of a project, as code.

    python -m experiments.dashboard --entity me --project sgid             make both, as new views
    python -m experiments.dashboard --entity me --project sgid --dry-run   write what would be sent

They show what `logger=wandb` logs. The report has a part for each experiment of the paper, of the
runs whose `logger.group` is its name, and one for each group that `--groups` names besides. With
--dry-run or WANDB_MODE=offline nothing is sent: workspace.json and report.json go to --output.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import wandb_workspaces.reports.v2.interface as wr
    import wandb_workspaces.workspaces as ws

TOP1, COSINE, DIVERSITY = "test/top1", "generated/cosine", "generated/diversity"
AGREEMENT, VALIDATION, LOSS = "generated/label_agreement", "validation/top1", "train/loss"
STEP = "trainer/global_step"
COLUMNS = 24  # of a report's grid
PINNED = (TOP1, VALIDATION, COSINE, AGREEMENT, DIVERSITY)

SHOWN = {
    "main": ("Accuracy", "Training"),
    "combination": ("Accuracy",),
    "ablation": ("Accuracy", "Consistency and diversity"),
    "noise_guidance": ("Noise rate and guidance",),
    "expansion": ("Number of images",),
    "shots": ("Number of images",),
    "consistency": ("Consistency and diversity", "Images"),
    "plane": ("Consistency and diversity",),
}
"""The experiments of the paper, and the sections that answer the question of each."""

OF_GENERATION = ("noise_guidance", "expansion")
"""Experiments on what only runs with generated images make use of."""


def sections() -> dict[str, list[Any]]:
    """Panels by section, the same for workspace and report."""
    import wandb_workspaces.reports.v2.interface as wr

    row = wr.Layout(w=COLUMNS, h=10)
    top1, cosine, diversity = (wr.SummaryMetric(name) for name in (TOP1, COSINE, DIVERSITY))
    noise_rate, guidance = wr.Config("noise_rate"), wr.Config("guidance_max")
    expansion, shots = wr.Config("expansion"), wr.Config("shots")

    def over_seeds(area: str) -> dict[str, Any]:
        return {
            "groupby": wr.Config("arm"),
            "groupby_aggfunc": "mean",
            "groupby_rangefunc": area,
            "max_runs_to_show": 500,
        }

    def bars(metric: str, title: str) -> Any:
        title += ": mean over seeds ± standard error"
        how = over_seeds("stderr")
        return wr.BarPlot(title=title, metrics=[metric], max_bars_to_show=50, layout=row, **how)

    def curve(metric: str, title: str) -> Any:
        title += ": mean and range over seeds"
        how = over_seeds("minmax")
        return wr.LinePlot(title=title, x=STEP, y=[metric], title_x="optimizer step", **how)

    def scatter(title: str, x: Any, y: Any, colour: Any = None) -> Any:
        gradient = _viridis() if colour else None
        return wr.ScatterPlot(title=title, x=x, y=y, z=colour, gradient=gradient)

    axes = {
        "augmentation": wr.Config("augmentation"),
        "noise rate": noise_rate,
        "guidance, at most": guidance,
        "images per original": expansion,
        "consistency": cosine,
        "diversity": diversity,
        "test top-1 (%)": top1,
    }
    columns = [
        wr.ParallelCoordinatesPlotColumn(metric=metric, display_name=name)
        for name, metric in axes.items()
    ]
    return {
        "Accuracy": [bars(TOP1, "Test top-1 (%)")],
        "Training": [curve(VALIDATION, "Validation top-1 (%)"), curve(LOSS, "Training loss")],
        "Noise rate and guidance": [
            scatter("Colour: test top-1 (%)", noise_rate, guidance, top1),
            scatter("Colour: consistency, cosine to the original", noise_rate, guidance, cosine),
            scatter("Colour: diversity of an original's images", noise_rate, guidance, diversity),
            wr.ParallelCoordinatesPlot(columns=columns, layout=row),
        ],
        "Number of images": [
            scatter("Test top-1 (%) by generated images per original", expansion, top1),
            scatter("Test top-1 (%) by real images per class", shots, top1),
        ],
        "Consistency and diversity": [
            scatter("Consistency and diversity; colour: test top-1 (%)", cosine, diversity, top1),
            scatter("Test top-1 (%) by label agreement (%)", wr.SummaryMetric(AGREEMENT), top1),
            bars(COSINE, "Consistency, cosine to the original"),
        ],
        "Images": [
            wr.WeavePanelSummaryTable(table_name="augmented", layout=row),
            wr.MediaBrowser(
                title="Originals and what became of them",
                media_keys=["report/examples"],
                num_columns=2,
                layout=row,
            ),
            wr.WeavePanelSummaryTable(table_name="test/classes", layout=row),
        ],
    }


def workspace(entity: str, project: str) -> ws.Workspace:
    """A view of all runs of a project, the seeds of an arm together."""
    import wandb_workspaces.workspaces as ws

    return ws.Workspace(
        entity=entity,
        project=project,
        name="SGID",
        sections=[
            ws.Section(name=name, panels=panels, is_open=name != "Images")
            for name, panels in sections().items()
        ],
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=100),
        runset_settings=ws.RunsetSettings(
            groupby=[ws.Metric("Group"), ws.Config("arm")],
            order=[ws.Ordering(ws.Summary(TOP1), ascending=False)],
            pinned_columns=[f"summary:{name}" for name in PINNED],
        ),
    )


def report(entity: str, project: str, groups: Sequence[str] = ()) -> wr.Report:
    """Every experiment of the paper, and every group besides, with what it is to show."""
    import wandb_workspaces.reports.v2.interface as wr
    from wandb_workspaces import expr

    blocks: list[Any] = [
        wr.TableOfContents(),
        wr.P(
            "Each part shows the runs whose logger.group is its name. A run that two experiments "
            "share is in the part of the one that ran first. Intervals here are over seeds, and no "
            "test: the tables of docs/results have those."
        ),
    ]
    for group in dict.fromkeys([*SHOWN, *groups]):
        # Without generated images a run has the options of generation, but does not use them.
        only = [expr.Config("generates") == True] if group in OF_GENERATION else []  # noqa: E712
        runs = wr.Runset(
            name=group,
            # No entity and project: it is the report's own, and nothing has to be looked up.
            filters=expr.And(expr.Metric("Group") == group, *only),
            order=[wr.OrderBy(wr.SummaryMetric(TOP1))],
            pinned_columns=[f"summary:{name}" for name in PINNED],
        )
        panels = sections()  # built again, since every panel has a name of its own
        chosen = [panel for name in SHOWN.get(group, panels) for panel in panels[name]]
        blocks += [wr.H1(group), wr.PanelGrid(runsets=[runs], panels=_laid_out(chosen))]
    return wr.Report(
        entity=entity,
        project=project,
        title="SGID: the paper's experiments",
        description="Made by python -m experiments.dashboard",
        blocks=blocks,
        width="fluid",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the workspace and the report, or write what would be sent; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entity", required=True, help="user or team")
    parser.add_argument("--project", default="sgid", help="default: %(default)s")
    parser.add_argument("--groups", nargs="*", default=[], help="of your own runs: logger.group")
    parser.add_argument("--dry-run", action="store_true", help="send nothing, write the JSON")
    parser.add_argument("--output", type=Path, default=Path("outputs/dashboard"))
    given = parser.parse_args(arguments)
    try:
        import wandb_workspaces as _  # noqa: F401
        from wandb.errors import Error
    except ModuleNotFoundError as error:
        print(f'{error.name} is needed: pip install "sgid[tracking]"', file=sys.stderr)
        return 1
    from sgid.reporting.wandb import is_offline, nobody

    views = {
        "workspace": workspace(given.entity, given.project),
        "report": report(given.entity, given.project, given.groups),
    }
    if given.dry_run or is_offline():
        given.output.mkdir(parents=True, exist_ok=True)
        for name, view in views.items():
            path = given.output / f"{name}.json"
            path.write_text(json.dumps(as_sent(view), indent=2) + "\n", encoding="utf-8")
            print(f"not sent: {path}")
        return 0
    if missing := nobody():
        print(f"{missing}: `wandb login`, or --dry-run to look at it first", file=sys.stderr)
        return 1
    try:
        for view in views.values():
            view.save()  # says where it is
    except (Error, ValueError, OSError) as error:
        print(f"--entity {given.entity} --project {given.project}: {error}", file=sys.stderr)
        return 1
    return 0


def as_sent(view: Any) -> dict[str, Any]:
    """The JSON of a workspace or report, as W&B is sent it."""
    # wandb-workspaces has no public name for it, which is why its version is pinned.
    return json.loads(view._to_model().model_dump_json(by_alias=True, exclude_none=True))


def _viridis() -> list[Any]:
    """Dark to bright, which the colour-blind can tell apart."""
    import wandb_workspaces.reports.v2.interface as wr

    colours = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
    return [wr.GradientPoint(color=c, offset=25 * place) for place, c in enumerate(colours)]


def _laid_out(panels: Sequence[Any]) -> list[Any]:
    """Panels in rows: two in a row, but for those that take a row of their own."""
    import wandb_workspaces.reports.v2.interface as wr

    x = y = height = 0
    for panel in panels:
        w, h = (COLUMNS, panel.layout.h) if panel.layout.w == COLUMNS else (COLUMNS // 2, 8)
        if x + w > COLUMNS:
            x, y, height = 0, y + height, 0
        panel.layout = wr.Layout(x=x, y=y, w=w, h=h)
        x, height = x + w, max(height, h)
    return list(panels)


if __name__ == "__main__":
    sys.exit(main())
