"""What a call costs, side by side: `python -m benchmarks` (or `make bench`)."""
