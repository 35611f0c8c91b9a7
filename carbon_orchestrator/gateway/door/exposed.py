"""A gateway that must not listen where it was told to."""


class Exposed(Exception):
    """The gateway was to listen where others can reach it, and nobody would need a key; the
    message says what to do."""
