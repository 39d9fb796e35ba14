"""The parts of `benchmarks/runtimes.py`."""
