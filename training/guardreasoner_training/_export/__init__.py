"""What an exported guard is made of."""
