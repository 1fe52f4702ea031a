"""Samplers of phase-space diffusion: they move positions and momenta, and work on nothing else."""
