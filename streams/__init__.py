"""Typed events over Redis Streams with atomic ack-and-emit commits."""
