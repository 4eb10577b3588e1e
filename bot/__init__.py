"""A storyteller for Discord that people host themselves."""
