"""What is looked for in rows before they are trained on."""
