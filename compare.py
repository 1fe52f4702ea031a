"""Several arms x seeds: table, intervals, picture, verdict. A claim is a stored comparison.

python compare.py claim=ROOM/BIBKEY
python compare.py data=my.csv arms.a='model=... optimizer=...' arms.b='...' seeds=5 metric=test/nll
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from compendium import cli
from compendium.errors import UserError, report


def main(arguments: list[str]) -> int:
    """Compare what a command line asks for.

    Returns:
        Exit code: 0 the claim holds, 1 it fails, 3 inconclusive, 2 a mistake, 128 + N stopped by signal N.
    """
    from compendium.claims.main import listing, run

    if cli.wants_help(arguments):
        print(listing())
        return 0
    return run(arguments)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        if "debug=true" in sys.argv:
            raise
        sys.exit(report(error))
