"""`python -m jaxrl`, which is `jaxrl`."""

import os
import sys

# As in jaxrl/cli/__main__.py: a file in the working folder is not taken for a module of Python's.
if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]

from jaxrl.cli import main

if __name__ == "__main__":
    sys.exit(main())
