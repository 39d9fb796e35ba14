"""What benchmarks/bompnas.py runs: known functions, tables of networks, and races of engines."""
