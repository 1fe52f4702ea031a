"""What is read from the sources is what Python sees."""

from __future__ import annotations

import re

import pytest

from compendium.config import CONF, locate, signature
from compendium.static import blueprint

TARGETS = sorted(
    {
        target
        for path in CONF.rglob("*.yaml")
        for target in re.findall(r"_target_: ([\w.]+)", path.read_text(encoding="utf-8"))
        if target.startswith(("callbacks.", "datamodules.", "modules."))
    }
)


@pytest.mark.parametrize("target", TARGETS)
def test_arguments_are_those_of_the_constructor(target):
    read = blueprint(target)
    names, required, open_ended = signature(locate(target))

    assert set(read.names) == set(names)
    assert set(read.required) == set(required)
    assert open_ended <= read.open_ended  # a parent that is not ours is not read
