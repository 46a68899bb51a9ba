"""What the app and the command line share: a person's choice becomes maps, files and decodings.

It knows nothing of gradio. Importing this package is light; opening a session imports torch and diffusers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mindviz.session.workspace import Workspace

__all__ = ["open"]


def open(data: Path, checkpoint: Path | None = None, device: str = "cpu") -> Workspace:
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
    from mindviz.session.workspace import Workspace

    decoder = Decoder.load(checkpoint or data / "checkpoint", device=device)
    decoder.check(dataset)
    workspace = Workspace(decoder, dataset)
    for subject in workspace.subjects:
        if not workspace.runs(subject):
            raise MindvizError(f"{data / 'dataset.json'}: expected test runs of subject {subject}, found none")
    return workspace
