"""The old address of `training.demo.world`, for one version."""

import sys

if __name__ == "__main__":
    sys.exit("training.world is now training.demo.world: python -m training.demo.world")
