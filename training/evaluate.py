"""The old address of `training.studies.report`, for one version."""

import sys

if __name__ == "__main__":
    sys.exit("training.evaluate is now training.studies.report: python -m training.studies.report")
