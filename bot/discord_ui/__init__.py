"""The Discord layer: parse a command or a message, ask the storyteller, and let the story grow in a message."""
