"""The old address of `training.studies.ablation`, for one version."""

import sys

if __name__ == "__main__":
    sys.exit("training.ablate is now training.studies.ablation: python -m training.studies.ablation")
