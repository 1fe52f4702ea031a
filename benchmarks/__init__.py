"""Speed beside its peers, measured in one run. `python -m benchmarks` runs them all; tests never assert on time."""
