"""The embedded guard: a small encoder with three heads, trained on public labels, shipped inside the wheel."""
