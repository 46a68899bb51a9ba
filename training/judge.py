"""The old address of `training.demo.judge`, for one version."""

import sys

if __name__ == "__main__":
    sys.exit("training.judge is now training.demo.judge: python -m training.demo.judge")
