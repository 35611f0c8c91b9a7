"""Measurements; every claim of the README comes from here."""
