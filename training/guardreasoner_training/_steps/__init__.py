"""What derived reasoning steps say."""
