"""A teacher, what it is asked, and what becomes of its answers."""
