"""A node for ComfyUI that gives black-and-white pictures their colours.

Copy or link this folder into `ComfyUI/custom_nodes`, and install `pipeline-colorize` into the
Python that runs ComfyUI. The node needs no model file beside that.
"""

from .node import Colorize, ColorizeExtension, comfy_entrypoint

__all__ = ["Colorize", "ColorizeExtension", "comfy_entrypoint"]
