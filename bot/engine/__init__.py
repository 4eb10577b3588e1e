"""Decoding: many texts at once, off the event loop. Knows no genre and no Discord."""
