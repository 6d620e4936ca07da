"""How rows are read, and what they hold."""
