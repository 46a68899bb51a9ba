"""The old address of `training.studies.guidance`, for one version."""

import sys

if __name__ == "__main__":
    sys.exit("training.guidance is now training.studies.guidance: python -m training.studies.guidance")
