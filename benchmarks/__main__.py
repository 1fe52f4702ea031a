"""All benchmarks, one after the other: `python -m benchmarks [--smoke]`."""

from __future__ import annotations

import sys

from benchmarks import comparisons, epochs, startup, steps
from benchmarks.generative import memory, sampling, training
from benchmarks.optimization import problems
from benchmarks.optimization import steps as optimizers
from benchmarks.preference import rollouts
from benchmarks.preference import training as preferences
from benchmarks.uncertainty import conformal_selection, ensemble, smooth_ece

if __name__ == "__main__":
    smoke = "--smoke" in sys.argv[1:]
    startup.main(1 if smoke else 5)
    print()
    steps.main(1 if smoke else 15)
    print()
    epochs.main(2 if smoke else 50)
    print()
    comparisons.main(1 if smoke else 4)
    print()
    training.main(1 if smoke else 15)
    print()
    sampling.main(1 if smoke else 15)
    print()
    memory.main(2 if smoke else 15)
    print()
    optimizers.main(1, limit=1) if smoke else optimizers.main(7, ("1M", "30M"))
    print()
    problems.main(("sgd",), ("quadratic",), trials=1, seeds=1) if smoke else problems.main()
    print()
    ensemble.main(1 if smoke else 5)
    print()
    smooth_ece.main(1, (1_000,)) if smoke else smooth_ece.main()
    print()
    conformal_selection.main(1, (1_000,)) if smoke else conformal_selection.main()
    print()
    preferences.main(1, ("smoke",)) if smoke else preferences.main()
    print()
    rollouts.main(1, ("smoke",)) if smoke else rollouts.main()
