"""``python -m mindviz``."""

import sys

from mindviz.cli import main

if __name__ == "__main__":
    sys.exit(main())
