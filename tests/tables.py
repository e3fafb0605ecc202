"""Tables of experiments and benchmarks, as tests read them."""

import re


def unpadded(text: str) -> str:
    """Tables in Markdown without what pads their cells."""
    return re.sub(" +", " ", text)
