"""Builds a corpus from sources: clean, de-duplicated, tagged, split without leaks."""
