"""What is asked of jobs: lists, one of them, its events and its output."""
