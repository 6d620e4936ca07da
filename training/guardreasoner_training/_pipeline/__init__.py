"""The stages of a training, and its figures."""
