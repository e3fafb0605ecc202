"""Commands in a process whose surroundings a test has made strange; no test itself.

    python -m tests.cli.ambient '[{"words": ["envs", "cart"], "denied": "run/plots"}, …]'

Each is run after the other. What is printed is one line of JSON: for every command its status (or
its traceback) and what it said on standard error. "denied" names what has `mode` in the meantime;
"leave" removes the working folder first.
"""

import contextlib
import io
import json
import os
import sys
import traceback


def run(words: list[str]) -> tuple[int | str, str]:
    from jaxrl import cli

    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        try:
            status: int | str = cli.main(words)
        except BaseException:
            status = traceback.format_exc()
    return status, errors.getvalue()


def main(tasks: list[dict]) -> None:
    found = []
    for task in tasks:
        path = task.get("denied")
        if task.get("leave"):
            os.rmdir(os.getcwd())
        if path is not None:
            usual = os.stat(path).st_mode
            os.chmod(path, task["mode"])
        found.append(run(task["words"]))
        if path is not None:
            os.chmod(path, usual)
    sys.__stdout__.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
