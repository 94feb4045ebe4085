"""The trainer on Hugging Face ``Trainer``, and what watches it."""
