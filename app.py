"""The app: arguments -> Decoder.load -> ui.build -> launch. Also the entry point of a Hugging Face Space."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mindviz import cli, session, ui

HERE = Path(__file__).parent


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="See the video decoded from a brain scan beside the video that was shown."
    )
    parser.add_argument(
        "--data", type=Path, default=HERE / "assets/demo", help="a prepared dataset (default: the demo)"
    )
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint folder (default: checkpoint/ beside the dataset)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    parser.add_argument("--host", help="address to listen on (default: GRADIO_SERVER_NAME, else 127.0.0.1)")
    parser.add_argument(
        "--port", type=int, help="port (default: GRADIO_SERVER_PORT, else the first free one from 7860)"
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser, unless NO_BROWSER is set")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the app until interrupted; 2 and one sentence where something does not fit."""
    options = arguments(argv)
    return cli.guarded(lambda: serve(options))


def serve(options: argparse.Namespace) -> int:
    """Open, build, launch."""
    workspace = session.open(options.data, options.checkpoint, options.device)
    demo = ui.build(workspace)
    ui.launch(demo, options.host, options.port, options.open and not os.environ.get("NO_BROWSER"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
