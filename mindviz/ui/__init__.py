"""The app: the layout, one file for each tab, the viewer. The only package that knows of gradio.

Importing this package imports no gradio (it takes seconds); calling `build` or `launch` does.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gradio

    from mindviz.ui.workspace import Workspace

__all__ = ["build", "launch", "open_workspace"]

# Before gradio is imported, which reads them then: nothing leaves the machine.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_OFFLINE"] = "1"


def open_workspace(data: Path, checkpoint: Path | None = None, device: str = "cpu") -> Workspace:
    """Open a prepared dataset and a checkpoint, and check that they fit.

    The default checkpoint is ``checkpoint/`` in the dataset's folder.

    Raises
    ------
    MindvizError
        If one is missing, damaged, or made for another mesh, window or set of vertices.
    """
    from mindviz.data import Dataset
    from mindviz.types import MindvizError

    dataset = Dataset.open(data)
    from mindviz.decoder import Decoder  # diffusers takes seconds to import: a refusal of the dataset need not wait
    from mindviz.ui.workspace import Workspace

    decoder = Decoder.load(checkpoint or data / "checkpoint", device=device)
    decoder.check(dataset)
    workspace = Workspace(decoder, dataset)
    for subject in workspace.subjects:
        if not workspace.runs(subject):
            raise MindvizError(f"{data / 'dataset.json'}: expected test runs of subject {subject}, found none")
    return workspace


def build(workspace: Workspace) -> gradio.Blocks:
    """The page for one decoder and one dataset."""
    from mindviz.ui.layout import build_page

    return build_page(workspace)


def launch(page: gradio.Blocks, host: str | None = None, port: int | None = None, open_browser: bool = False) -> None:
    """Serve the page until interrupted; host and port default to GRADIO_SERVER_NAME and GRADIO_SERVER_PORT."""
    from mindviz.ui.layout import launch_page

    launch_page(page, host, port, open_browser)
