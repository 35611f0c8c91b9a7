"""The record against itself: every decision, figure, total and job history recomputed from it."""
