"""The search for learning rates and alpha."""
