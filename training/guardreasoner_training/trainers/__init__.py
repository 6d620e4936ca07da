"""What the trainings have in common, on TRL's trainers."""
