"""``python -m training.paper``: what the paper's stages cost at full size."""

from __future__ import annotations

import argparse
import sys

from mindviz.types import MindvizError
from training.paper import memory


def main() -> int:
    parser = argparse.ArgumentParser(description="Sizes and memory of the paper's stages, and what fits in 24 GB.")
    parser.add_argument("--json", action="store_true", help="as JSON instead of tables")
    parser.add_argument("--gpu", type=float, default=24.0, help="memory of the GPU to fill, in GiB (default: 24)")
    parser.add_argument("--real", choices=("encoder", "masked", "unet"), help="one real forward and backward instead")
    parser.add_argument("--batch-size", type=int, default=1, help="of --real")
    parser.add_argument("--no-checkpointing", action="store_true", help="--real without gradient checkpointing")
    arguments = parser.parse_args()
    try:
        if arguments.real:
            print(memory.real_run(arguments.real, arguments.batch_size, not arguments.no_checkpointing))
        else:
            print(memory.as_json(arguments.gpu) if arguments.json else memory.as_tables(arguments.gpu))
    except MindvizError as error:
        print(f"training.paper: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
