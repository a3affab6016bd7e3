"""What the method costs (`python -m benchmarks`) and whether it agrees (`benchmarks.parity`)."""
