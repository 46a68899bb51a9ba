"""``python -m training.demo``: build everything that `assets/demo` ships, from nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from mindviz.types import MindvizError
from training.demo import pipeline
from training.demo.pipeline import Demo

DEMO_STEPS: dict[str, Callable[[Demo], object]] = {
    "world": lambda d: d.dataset,
    "codec": lambda d: d.codec,
    "clip": lambda d: d.clip,
    "image": lambda d: d.image,
    "mask": lambda d: d.masked,
    "contrast": lambda d: d.contrasted,
    "attend": lambda d: d.readouts,
    "inflate": lambda d: d.inflated,
    "sketch": lambda d: d.sketch,
    "name": lambda d: d.namer,
    "paint": lambda d: d.painting,
    "cotrain": lambda d: d.cotrained,
    "finish": lambda d: d.finished,
    "judge": lambda d: d.judge,
    "publish": lambda d: d.published,
    "tokens": lambda d: [d.unseen_tokens(s) for s in d.scans],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=pipeline.__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of all intermediate results")
    parser.add_argument("--only", choices=DEMO_STEPS, help="run this stage (and those before it that are not finished)")
    arguments = parser.parse_args()
    demo = Demo(arguments.out)
    try:
        for name in [arguments.only] if arguments.only else DEMO_STEPS:
            DEMO_STEPS[name](demo)
    except MindvizError as error:
        print(f"training.demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"training.demo: {stop}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
