"""Where Hydra looks for `hydra/launcher=process`: it takes launchers from its namespace of plugins and nowhere else."""

from hydra.core.config_store import ConfigStore

from cxr_experiments.config import launcher


class ProcessLauncher(launcher.ProcessLauncher):
    """The launcher under the name that its config gives."""


ConfigStore.instance().store(group="hydra/launcher", name="process", node=launcher.ProcessLauncherConf)
