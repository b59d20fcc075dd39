"""How do models and their samples leave the house, and come in from others? Files that stand for themselves."""
