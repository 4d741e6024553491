"""The entry in a clone, e.g. `python run.py dataset=cars backbone=vit aug=sgid`; see `--help`."""

from sgid.__main__ import run

if __name__ == "__main__":
    run()
