"""Hydra finds sweepers in packages of this name alone: the one of `experiment=advise`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@final
class AdviseSweeper(Sweeper):
    """Runs a search of `sgid.advise` with the launcher that was chosen."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from hydra.core.plugins import Plugins

        self.context, self.master = hydra_context, config
        self.chosen: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.launched = 0

    def sweep(self, arguments: list[str]) -> None:
        from sgid.advise.advise import advise

        advise(self.master, arguments, self._compose, self._launch)

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        """The config of a job with these overrides."""
        loader = self.context.config_loader
        return loader.load_sweep_config(self.master, list(overrides))

    def _launch(self, jobs: Sequence[Sequence[str]]) -> Sequence[JobReturn]:
        first, self.launched = self.launched, self.launched + len(jobs)
        return self.chosen.launch([list(job) for job in jobs], initial_job_idx=first)
