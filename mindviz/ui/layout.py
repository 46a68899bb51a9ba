"""The page around the tabs: theme, style, header; and how it is served."""

from __future__ import annotations

import os
import webbrowser

import gradio as gr

from mindviz.session.own_files import MAX_BYTES
from mindviz.session.workspace import Workspace
from mindviz.types import MindvizError
from mindviz.ui import decode_tab, views
from mindviz.ui.components import static


def theme() -> gr.themes.Base:
    """System fonts only: a font from a server would be a request that leaves the machine."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.slate,
        font=("system-ui", "Segoe UI", "Helvetica Neue", "Arial", "sans-serif"),
        font_mono=("ui-monospace", "Menlo", "Consolas", "monospace"),
        radius_size=gr.themes.sizes.radius_md,
        spacing_size=gr.themes.sizes.spacing_sm,
        text_size=gr.themes.sizes.text_md,
    )


def build_page(workspace: Workspace) -> gr.Blocks:
    """The page for one workspace."""
    # gradio keeps copies of what it handed out: those of an hour ago are deleted, looked for every ten minutes
    with gr.Blocks(title="mindviz", fill_width=True, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.HTML(
            views.header(workspace.dataset.name, workspace.decoder.name, workspace.simulated),
            apply_default_css=False,
            elem_id="app-header",
        )
        decode_tab.build_decode(workspace)
    return page


def launch_page(page: gr.Blocks, host: str | None, port: int | None, open_browser: bool) -> None:
    """Serve until interrupted.

    Raises
    ------
    MindvizError
        If the port is taken.
    """
    try:
        _, address, _ = page.queue(default_concurrency_limit=4).launch(
            server_name=host or os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            theme=theme(),
            css=static("style.css"),
            max_file_size=MAX_BYTES,
            footer_links=[],
            show_error=False,
            ssr_mode=False,
            pwa=False,
            run_history=False,
        )
    except OSError as error:
        raise MindvizError(f"the app could not be served: {error}") from error
    print(f"mindviz runs at {address} (Ctrl+C ends it)", flush=True)
    if open_browser:
        webbrowser.open(address)
    page.block_thread()
