"""The command `sgid`, the same as `python run.py` in a clone and as `python -m sgid`."""

import atexit
import os
import sys

code: object = 1


def end() -> None:
    """Leave. Python would free the libraries' million objects one by one first: two seconds."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else code is not None)


def run() -> None:
    """Run the command line of this process, and leave with its exit code."""
    global code
    atexit.register(end)  # first, so that it is called last
    from sgid.cli import main

    try:
        code = main()
    except SystemExit as leaving:
        code = leaving.code
        raise
    sys.exit(code)


if __name__ == "__main__":
    run()
