"""The command `predict`: which network, which films, its answers, and where they go."""
