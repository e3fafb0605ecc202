"""`python -m jaxrl.cli`, which is `jaxrl`."""

import os
import sys


def forget_the_working_folder() -> None:
    """Take the working folder from where modules are looked for.

    Python searches it first here, where a stranger's random.py would be taken for Python's own. It
    is searched last, and only for a name that the user gave as package.module:Name
    (jaxrl.config.import_factory).
    """
    try:
        here = os.getcwd()
    except OSError:  # it was removed
        here = ""
    if not sys.flags.safe_path and sys.path and sys.path[0] in ("", here):
        del sys.path[0]


forget_the_working_folder()

from jaxrl.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
