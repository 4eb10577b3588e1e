"""Writes short stories by plots that are kept as readable text."""
