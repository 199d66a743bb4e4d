"""Lets ``python -m ollamad.runner_child`` start a runner."""

import os
import sys

from ollamad.runner_child.main import main

if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # Not sys.exit: threads may be in native code, and freeing a model takes time that the system does not need.
    os._exit(status)
