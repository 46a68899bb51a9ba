"""The components of the cortex panel, which the files that connect them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from mindviz.session.map_jobs import MapJobs


@dataclass(frozen=True)
class BrainPanel:
    """The viewer, the choices above it, the sentence on what the map does not say, and the ways to save the map and to
    open another."""

    view: gr.HTML
    method: gr.Dropdown
    control: gr.Dropdown
    layer: gr.Dropdown
    head: gr.Dropdown
    position: gr.Dropdown
    other: gr.Dropdown
    caution: gr.HTML
    save: gr.Button
    zipped: gr.DownloadButton
    upload: gr.UploadButton
    asked: gr.HTML  # stands for what the page itself says when it asks (`map_jobs.PageRequest`): shown nowhere
    own: gr.State  # `OwnFiles` of this session
    jobs: MapJobs
    answers: gr.HTML  # what was read from the scan, and which areas said so

    @property
    def choices(self) -> list[Any]:
        """What says which map is meant."""
        return [self.method, self.layer, self.head, self.control, self.position, self.own]
