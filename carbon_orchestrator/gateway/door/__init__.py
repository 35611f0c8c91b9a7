"""Who comes in, and how it is spoken with: keys, limits, connections, headers."""
