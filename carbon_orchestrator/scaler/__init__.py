"""Pools whose size follows what waits for them, as far as the grid's carbon allows."""
