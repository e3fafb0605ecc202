"""`python -m jaxrl.cli`, which is `jaxrl`."""

import os
import sys

# Python searches the working folder first here, where a stranger's random.py would be taken for
# Python's own. It is searched last, and only for a name that the user gave as package.module:Name
# (jaxrl.config.import_factory).
try:
    folder = os.getcwd()
except OSError:  # which was removed
    folder = ""
if not sys.flags.safe_path and sys.path and sys.path[0] in ("", folder):
    del sys.path[0]

from jaxrl.cli import main

if __name__ == "__main__":
    sys.exit(main())
