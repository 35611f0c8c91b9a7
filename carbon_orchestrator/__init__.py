"""Carbon-aware orchestration of AI and batch jobs over Redis Streams."""

__version__ = "0.1.0"
