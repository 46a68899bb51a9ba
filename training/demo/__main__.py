"""``python -m training.demo``: build everything that `assets/demo` ships, from nothing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mindviz.types import MindvizError
from training.demo import pipeline


def main() -> int:
    parser = argparse.ArgumentParser(description=pipeline.__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of all intermediate results")
    parser.add_argument(
        "--only", choices=pipeline.DEMO_STEPS, help="run this stage (and those before it that are not finished)"
    )
    arguments = parser.parse_args()
    demo = pipeline.Demo(arguments.out)
    try:
        for name in [arguments.only] if arguments.only else pipeline.DEMO_STEPS:
            pipeline.DEMO_STEPS[name](demo)
    except MindvizError as error:
        print(f"training.demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"training.demo: {stop}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
