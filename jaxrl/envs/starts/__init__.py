"""Start distributions: where an episode begins. The mechanism behind every auto-reset; one module each, see `api`."""
