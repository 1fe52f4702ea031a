"""`python -m compendium.new_method ROOM/NAME`: the files of a new method, each of which fails until it is filled.

Code, config, test and claim stand where the mirror rule wants them. Nothing else has to be edited: the contract test,
`--help` and the evaluations find the method by themselves.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from compendium.config import ROOT
from compendium.errors import UserError, report

FILES = {
    "modules/{room}/{name}.py": '''"""TODO: what the method is, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.method import Method


class {kind}(Method):
    """TODO: what it computes, with its formula in plain text.

    TODO: authors year, "title": sections and equations that this follows.

    Deviations: TODO, numbered, or "none".

    Args:
        spec: TODO: the data that it can learn from.
        parts: `net`, `optimizer`, `schedule`, see `Method`.
    """

    batch_type = Labelled
    papers = ("{bibkey}",)

    def __init__(self, spec: DataSpec | Mapping[str, Any], **parts: Any) -> None:
        super().__init__(spec, **parts)
        self.net = self.build(self.spec.shape, (len(self.spec.classes),))

    def loss(self, batch: Labelled) -> Tensor:
        raise NotImplementedError("TODO: the loss of modules/{room}/{name}.py")
''',
    "conf/model/{room}/{name}.yaml": """# @package _global_
# TODO: what the method is, in one line (authors year).
defaults:
  - override /data: digits
  - override /datamodule: labelled
  - override /net: predictor
  - override /optimizer: adamw
  - override /schedule: constant
model:
  _target_: modules.{room}.{name}.{kind}
trainer:
  max_epochs: 10
""",
    "tests/modules/{room}/test_{name}.py": '''"""TODO: what the method is checked against, outside of its own code."""

from __future__ import annotations

import pytest


def test_against_a_value_from_outside():
    pytest.fail("TODO: a closed form, a value worked out by hand, a limit, or an independent implementation")
''',
    "conf/claim/{room}/{bibkey}.yaml": """# TODO: the paper's statement in one sentence.
paper: {bibkey}
statement: TODO
arms:
  method: model={room}/{name}
  baseline: TODO, what the paper compares with, tuned as carefully
baseline: baseline
seeds: [0, 1, 2, 3, 4]
checks:
  - TODO, such as method.test/accuracy > baseline.test/accuracy
deviations:
  - TODO, from the paper's own experiment
tuning: TODO, the same number of trials for every arm, on seeds from 1000 up
scale:
  paper:
    base: TODO, the paper's own data and network
""",
}


def create(path: str, bibkey: str, root: Path = ROOT) -> list[Path]:
    """Write the stubs.

    Args:
        path: ROOM/NAME, lower case with underscores.
        bibkey: the paper's key in docs/papers.bib.
        root: the checkout.

    Returns:
        The files, in the order in which to fill them.

    Raises:
        UserError: a name that is none, or a file that is there already; nothing is written then.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*/[a-z][a-z0-9_]*", path):
        raise UserError(
            f"'{path}' is no ROOM/NAME of lower-case words joined by underscores.", "e.g. generative/my_method"
        )
    room, name = path.split("/")
    kind = "".join(word.capitalize() for word in name.split("_"))
    values = {"room": room, "name": name, "kind": kind, "bibkey": bibkey}
    texts = {root / target.format(**values): text.replace("{{", "{").format(**values) for target, text in FILES.items()}
    there = [str(file.relative_to(root)) for file in texts if file.exists()]
    if there:
        raise UserError(f"{', '.join(there)} is there already.", "choose another name")
    package = root / "modules" / room / "__init__.py"
    if not package.exists():
        texts = {package: ""} | texts
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return [file for file in texts if texts[file]]


def main(arguments: list[str]) -> int:
    """The command line; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m compendium.new_method", description=__doc__.splitlines()[0])
    parser.add_argument("path", help="ROOM/NAME")
    parser.add_argument("--bibkey", help="key of the paper in docs/papers.bib; NAME where it is not given")
    options = parser.parse_args(arguments)
    try:
        files = create(options.path, options.bibkey or options.path.rpartition("/")[2])
    except UserError as error:
        return report(error)
    print("\n".join(["fill these, in this order:", *(f"  {file.relative_to(ROOT)}" for file in files)]))
    print("and add the paper to docs/papers.bib; then: pytest tests/modules -k " + options.path.rpartition("/")[2])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
