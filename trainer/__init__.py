"""Fine-tunes GPT-2 on genre-tagged stories."""
