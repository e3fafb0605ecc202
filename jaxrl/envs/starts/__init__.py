"""Start distributions: where an episode begins, the mechanism behind every automatic reset.

One module each; their contract is in `api`.
"""
