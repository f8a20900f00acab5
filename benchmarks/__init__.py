"""What is promised of speed, memory and statistics, measured: `python -m benchmarks` runs all that have `rows`."""
