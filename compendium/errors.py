"""Mistakes that a person can mend, and the one clear screen they get."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """A mistake in what was asked for: what is wrong, where, and how to mend it.

    Args:
        what: the mistake, with where it is.
        mend: what to do about it; a command where there is one.
    """

    def __init__(self, what: str, mend: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.what}\n  {self.mend}" if self.mend else self.what


class UserErrors(UserError):
    """Several mistakes, shown at once."""

    def __init__(self, errors: Sequence[UserError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = errors


class MissingExtra(UserError):
    """A package of an extra is not installed."""

    def __init__(self, package: str, extra: str, needed_by: str) -> None:
        super().__init__(
            f"{needed_by} needs the package '{package}', which is not installed.",
            f"pip install -e '.[{extra}]'",
        )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence with the nearest known words, or with all of them where they are few; empty where none is near."""
    names = sorted(set(known))
    near = difflib.get_close_matches(word, names, n=3, cutoff=0.55)
    if not near:  # the last part alone: `lr` for `optimizer.lr`, `digits` for `image/digits`
        tails = {name.replace("/", ".").rsplit(".", 1)[-1]: name for name in names}
        tail = word.replace("/", ".").rsplit(".", 1)[-1]
        near = [tails[match] for match in difflib.get_close_matches(tail, tails, n=3, cutoff=0.7)]
    if near:
        best = difflib.SequenceMatcher(None, word, near[0]).ratio()
        close = [name for name in near if difflib.SequenceMatcher(None, word, name).ratio() > best - 0.08]
        return f"did you mean {' or '.join(close)}?"
    if 0 < len(names) <= 12:
        return f"there are: {', '.join(names)}"
    return ""


def report(error: UserError) -> int:
    """Print the one screen that a mistake gets, on stderr.

    Returns:
        The exit code of a mistake, 2.
    """
    errors = error.errors if isinstance(error, UserErrors) else [error]
    print(file=sys.stderr)
    for mistake in errors:
        head, *rest = mistake.what.splitlines()
        print(f"error: {head}", file=sys.stderr)
        for line in rest:
            print(f"       {line}", file=sys.stderr)
        for line in mistake.mend.splitlines():
            print(f"       {line}", file=sys.stderr)
    return 2
