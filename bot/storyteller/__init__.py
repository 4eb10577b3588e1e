"""The use case: choose the genre, budget the tokens, stream the text, trim its end."""
