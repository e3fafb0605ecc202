"""What `jaxrl new` copies: an algorithm, and an environment, of one's own to begin with."""
