"""Where Hydra looks for our launchers: it takes them from its namespace of plugins and nowhere else."""

from dataclasses import asdict
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.plugins.search_path_plugin import SearchPathPlugin

from cxr_experiments.config import launcher, ray_launcher, submitit_launcher


class ProcessLauncher(launcher.ProcessLauncher):
    """The launcher under the name that its config gives."""


class RayLauncher(ray_launcher.RayLauncher):
    """As above."""


class SubmititLocalLauncher(submitit_launcher.LocalLauncher):
    """As above."""


class SubmititSlurmLauncher(submitit_launcher.SlurmLauncher):
    """As above."""


ENGINES: dict[str, tuple[type[launcher.JobLauncher], Any]] = {
    "ray": (RayLauncher, ray_launcher.RayOptions()),
    "submitit_local": (SubmititLocalLauncher, submitit_launcher.LocalOptions()),
    "submitit_slurm": (SubmititSlurmLauncher, submitit_launcher.SlurmOptions()),
}


class EnginesLast(SearchPathPlugin):
    """Called when all plugins are loaded: ours stand under these names, whichever published ones are installed too."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Leave the path as it is."""
        for name, (target, options) in ENGINES.items():
            node: dict[str, Any] = {"_target_": f"{__name__}.{target.__name__}", **asdict(options)}
            ConfigStore.instance().store(group="hydra/launcher", name=name, node=node)


ConfigStore.instance().store(group="hydra/launcher", name="process", node=launcher.ProcessLauncherConf)
