"""Checking a file of rows: reading it, judging it, writing verdicts so that a killed run can go on."""
