"""Several answers to a row, and the pairs they make."""
