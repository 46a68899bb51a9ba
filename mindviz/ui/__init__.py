"""The app: the layout, one file for each tab, the viewer. The only package that knows of gradio.

Importing this package imports no gradio (it takes seconds); calling `build` or `launch` does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gradio

    from mindviz.session.workspace import Workspace

__all__ = ["build", "launch"]

# Before gradio is imported, which reads them then: nothing leaves the machine.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_OFFLINE"] = "1"


def build(workspace: Workspace) -> gradio.Blocks:
    """The page for one decoder and one dataset."""
    from mindviz.ui.layout import build_page

    return build_page(workspace)


def launch(page: gradio.Blocks, host: str | None = None, port: int | None = None, open_browser: bool = False) -> None:
    """Serve the page until interrupted; host and port default to GRADIO_SERVER_NAME and GRADIO_SERVER_PORT."""
    from mindviz.ui.layout import launch_page

    launch_page(page, host, port, open_browser)
