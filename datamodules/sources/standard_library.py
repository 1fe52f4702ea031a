"""The source text of Python's standard library."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from compendium.errors import UserError
from datamodules.source import Records, Source
from datamodules.spec import DataSpec

# Pure-Python modules of one file each, in Python 3.11 and 3.12 alike. Whole modules are held out.
MODULES = {
    "train": (
        "argparse ast bisect calendar cmd configparser contextlib copy csv dataclasses difflib dis enum filecmp "
        "fileinput fractions functools getopt glob gzip heapq hmac inspect ipaddress mailbox mimetypes optparse "
        "pickle plistlib pprint random sched selectors shelve shutil smtplib socket subprocess tempfile threading "
        "timeit tokenize traceback types uuid wave weakref"
    ),
    "validation": "fnmatch queue reprlib statistics textwrap",
    "test": "colorsys gettext netrc numbers shlex string tarfile webbrowser",
}


class StandardLibrary(Source):
    """English prose and code that every machine has: modules of the running interpreter, one document each.

    About 2 million characters. The split is by module and fixed. The text is the same on all machines with the same
    Python patch release; between patch releases a few lines of a module differ, between 3.11 and 3.12 more.
    """

    def load(self) -> Records:
        documents = {split: [self._text(name) for name in names.split()] for split, names in MODULES.items()}
        return Records(DataSpec(name="standard_library", kind="text", shape=()), documents=documents)

    @staticmethod
    def _text(name: str) -> str:
        found = importlib.util.find_spec(name)
        if found is None or not found.origin or not found.origin.endswith(".py"):
            raise UserError(
                f"data=standard_library: this Python carries no source text of its module '{name}'.",
                "Use an interpreter with its .py files, or your own text: data=text data.path=FILE",
            )
        return Path(found.origin).read_text(encoding="utf-8")
