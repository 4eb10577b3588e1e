"""`python -m bot bench`: how fast this machine tells stories, beside transformers' `generate` in the same minutes."""
