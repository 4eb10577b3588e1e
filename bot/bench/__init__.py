"""`python -m bot bench`: how fast this machine tells stories, beside transformers in the same minutes."""
