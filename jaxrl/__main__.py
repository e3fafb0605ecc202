"""`python -m jaxrl`, which is `jaxrl`."""

import sys

from jaxrl.cli.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
