"""The class that plain diffusers needs to open this folder, from the package around it.

`save_pretrained` writes a folder that holds the code itself, and can be used without the package.
"""

from pipeline_colorize.core.scheduler import OffsetCosineScheduler

__all__ = ["OffsetCosineScheduler"]  # SchedulerMixin
