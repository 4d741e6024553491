"""The entry point, e.g. `python run.py dataset=cars backbone=vit aug=sgid`; see `--help`."""

import sys

from sgid.cli import main

if __name__ == "__main__":
    sys.exit(main())
