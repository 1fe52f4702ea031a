"""Launchers of `python train.py -m ...`: processes on this machine, or SLURM jobs."""
