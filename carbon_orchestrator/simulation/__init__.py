"""The router's own decisions over a recorded grid, in virtual time."""
