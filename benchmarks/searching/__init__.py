"""What `bpnas.py` and `search_step.py` are made of."""
