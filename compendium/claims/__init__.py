"""Claims and comparisons: arms x seeds become runs, runs become figures, figures become verdicts.

claim.py       what is compared: a stored claim, or a comparison asked for on the command line
plan.py        the runs that it needs, stages first
work.py        the runs done: processes here, or SLURM jobs
evidence.py    what the runs left: figures, curves, and under which protocol they were evaluated
checks.py      statements about figures, and whether the evidence bears them out
statistics.py  the intervals and tests behind them
record.py      the result as plain values, the one source of every table, picture and page
table.py  picture.py  progress.py      the result and the work as a person sees them
"""
