"""Every stored claim: it validates at both scales, its paper is known, and what is recorded of it is of today."""

from __future__ import annotations

import re

import pytest

from compendium.claims.claim import Claim
from compendium.claims.main import dry
from compendium.claims.plan import plan
from compendium.claims.record import stored_path
from compendium.config import choices
from compendium.papers import bibliography
from compendium.run import read_json

CLAIMS = sorted(choices("claim"))


@pytest.fixture(scope="module", params=CLAIMS)
def name(request):
    """Of the module, so that pytest runs all tests of a claim one after the other, and plans once for them."""
    return request.param


@pytest.fixture(scope="module")
def planned(name):
    """The claim's plan at its default size."""
    return plan(Claim.stored(name))


def test_every_run_of_a_claim_validates(planned):
    """As `python compare.py claim=... dry=true` does."""
    assert dry(planned) == 0


def test_a_claim_says_all_that_a_reader_needs(name):
    claim = Claim.stored(name)
    assert claim.paper == name.rpartition("/")[2]
    assert claim.paper in bibliography()
    assert len(claim.statement.split()) >= 8
    assert claim.checks
    assert claim.baseline
    assert claim.deviations
    assert claim.tuning
    assert len(claim.seeds) >= 5
    assert max(claim.seeds) < 1000, "seeds from 1000 up are for tuning"
    assert not {int(seed) for seed in re.findall(r"\bseeds? (\d+)", claim.tuning)} & set(claim.seeds)
    assert "paper" in claim.scale


def test_the_full_size_composes(name, planned):
    """Only composition: its data are on a hub, and its devices elsewhere."""
    full = plan(Claim.stored(name, "paper"))
    assert full.jobs
    assert full.identity != planned.identity


def test_what_is_recorded_is_the_claim_as_it_stands(name, planned):
    found = read_json(stored_path(name))
    assert found["config"] == planned.identity, f"run it again: python compare.py claim={name}"
    assert found["seeds"] == list(planned.claim.seeds)
    assert not found["missing"]
    assert found["made"]["command"] == f"python compare.py claim={name}"
    assert not found["made"]["commit"].endswith("+"), "recorded from files that are in no commit"
