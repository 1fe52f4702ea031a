"""Every stored claim: it validates at both scales, its paper is known, and what is recorded of it is of today."""

from __future__ import annotations

import re

import pytest

import compare
from compendium.claims.claim import Claim
from compendium.claims.plan import plan
from compendium.claims.record import stored_path
from compendium.config import choices
from compendium.papers import bibliography
from compendium.run import read_json
from tests.command import here

CLAIMS = sorted(choices("claim"))


@pytest.mark.parametrize("name", CLAIMS)
def test_every_run_of_a_claim_validates(capfd, tmp_path, name):
    outcome = here(capfd, f"claim={name}", "dry=true", f"runs={tmp_path}", program=compare)
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("name", CLAIMS)
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


@pytest.mark.parametrize("name", CLAIMS)
def test_the_full_size_composes(name, tmp_path):
    """Only composition: its data are on a hub, and its devices elsewhere."""
    planned = plan(Claim.stored(name, "paper"), quiet=[f"runs={tmp_path}"])
    assert planned.jobs
    assert planned.identity != plan(Claim.stored(name), quiet=[f"runs={tmp_path}"]).identity


@pytest.mark.parametrize("name", CLAIMS)
def test_what_is_recorded_is_the_claim_as_it_stands(name):
    found = read_json(stored_path(name))
    planned = plan(Claim.stored(name))
    assert found["config"] == planned.identity, f"run it again: python compare.py claim={name}"
    assert found["seeds"] == list(planned.claim.seeds)
    assert not found["missing"]
    assert found["made"]["command"] == f"python compare.py claim={name}"
    assert not found["made"]["commit"].endswith("+"), "recorded from files that are in no commit"
