"""Held-out records: those that another presentation validates on, in its units, and no others."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.presentations.held_out import HeldOutData
from datamodules.presentations.labelled import LabelledData
from datamodules.sources.tables import Table


def test_records_are_those_that_the_other_presentation_validates_on():
    labelled = LabelledData(Table("wine"), seed=3, validation=0.25)
    held = HeldOutData(Table("wine"), seed=3, validation=0.25, share=0.5)
    parts = [set(held.rows[name].tolist()) for name in ("train", "validation")] if held.spec else []
    assert labelled.spec.sizes["validation"] == 44
    assert parts[0] | parts[1] == set(labelled.rows["validation"].tolist())
    assert not parts[0] & parts[1]
    assert [len(part) for part in parts] == [22, 22]
    assert held.spec.sizes == {"train": 22, "validation": 22, "test": 36}
    for one, other in zip(held.records("test"), labelled.records("test"), strict=True):
        assert torch.equal(one, other)  # the same records in the same units
    row = held.rows["train"][:1]
    theirs = (labelled.rows["validation"] == row).nonzero()[0]
    assert torch.equal(held.records("train").x[:1], labelled.records("validation").x[theirs])


def test_all_may_be_fitted_on():
    assert HeldOutData(Table("wine"), validation=0.25, share=1.0).spec.sizes == {
        "train": 44,
        "validation": 0,
        "test": 36,
    }


@pytest.mark.parametrize(
    ("arguments", "message"), [({"share": 0.0}, "datamodule.share=0.0"), ({"validation": 0.0}, "holds nothing out")]
)
def test_what_holds_nothing_out_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        HeldOutData(Table("wine"), **arguments).setup()
