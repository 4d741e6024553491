"""The entry point, e.g. `python run.py dataset=cars backbone=vit aug=sgid`; see `--help`."""

import atexit
import os
import sys

code: object = 1


def end() -> None:
    """Leave. Python would free the libraries' million objects one by one first: two seconds."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else code is not None)


if __name__ == "__main__":
    atexit.register(end)  # first, so that it is called last
    from sgid.cli import main

    try:
        code = main()
    except SystemExit as leaving:
        code = leaving.code
        raise
    sys.exit(code)
