"""The thin Discord layer: parse, defer, draw. No logic of stories, no torch."""
