"""Claims as they are written: what is read, and what is refused."""

from __future__ import annotations

import pytest

import compare
from compendium.claims.claim import Claim, seeds
from compendium.claims.main import request
from compendium.config import choices
from compendium.errors import UserError
from tests.command import here

ARMS = {"a": "model=supervised/classifier net=mlp", "b": "model=supervised/classifier net=cnn"}


def claim(**fields):
    return Claim.of({"arms": ARMS, **fields}, "room/key", "the claim")


@pytest.mark.parametrize(
    ("written", "expected"),
    [(3, (0, 1, 2)), ("3", (0, 1, 2)), ("[100,101]", (100, 101)), ([7], (7,))],
)
def test_seeds(written, expected):
    assert seeds(written) == expected


@pytest.mark.parametrize("written", ["x", "[1,1]", "0", "-1", "[]", "[-1]", "[0.5]", "true", "{a: 1}", "[1", 2.5])
def test_what_is_no_seeds(written):
    with pytest.raises(UserError, match="seeds="):
        seeds(written)


def test_what_is_not_named_has_its_default():
    found = claim(checks=["a.test/nll < b.test/nll", "every a.test/accuracy >= 0.5"])
    assert found.seeds == (0, 1, 2, 3, 4)
    assert found.compared_with == "b"
    assert found.figures == ["test/nll", "test/accuracy"] or set(found.figures) == {"test/nll", "test/accuracy"}
    assert found.room == "room"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"arm": {}}, "did you mean arms?"),
        ({"arms": {}}, "names no arms"),
        ({"arms": {"A-1": "net=mlp"}}, "no name of an arm"),
        ({"baseline": "c"}, "no arm"),
        ({"checks": ["a.x < c.x"]}, "no arm 'c'"),
        ({"checks": ["a.x"]}, "compares nothing"),
        ({"arms": {"a": "weights={base}", "b": "net=mlp"}}, "'base', which is no stage"),
        ({"base": "seed=3"}, "seeds are the comparison's"),
        ({"differ": ["splits"]}, "'splits' is no part"),
        ({"seeds": "x"}, "seeds=x"),
    ],
)
def test_mistakes_in_a_claim(fields, message):
    with pytest.raises(UserError) as caught:
        claim(**fields)
    assert message in str(caught.value)


def test_an_interpolation_is_no_stage():
    assert claim(base="data.seed=${seed}").base == "data.seed=${seed}"


def test_a_scale_replaces_fields(tmp_path):
    path = tmp_path / "key.yaml"
    path.write_text(
        "arms: {a: net=mlp, b: net=cnn}\nbase: data=digits\nscale: {paper: {base: data=cifar10, seeds: 3}}\n"
    )
    assert Claim.read(path, "room/key").base == "data=digits"
    scaled = Claim.read(path, "room/key", "paper")
    assert (scaled.base, scaled.seeds, scaled.scaled) == ("data=cifar10", (0, 1, 2), "paper")
    with pytest.raises(UserError, match="did you mean paper"):
        Claim.read(path, "room/key", "papr")


@pytest.mark.parametrize("text", ["[1, 2", "just words", ""])
def test_a_file_that_holds_no_claim(tmp_path, text):
    path = tmp_path / "key.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"conf/claim/room/key\.yaml"):
        Claim.read(path, "room/key")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["claim=nothing"], "no such claim"),
        (["claim=generative/albergo2023stochastik"], "did you mean generative/albergo2023stochastic?"),
        ([], "nothing to compare"),
        (["arms.a=net=mlp"], "one arm alone"),
        (["--fast"], "'--fast' is not understood"),
        (["arms.a=net=mlp", "arms.b=net=cnn", "seeds=x"], "seeds=x is no number"),
        (["arms.a=net=mlp", "arms.b=net=cnn", "parallel=x"], "expected a whole number"),
        (["arms.a=net=mlp", "arms.b=net=cnn", "dry=yes"], "expected true or false"),
        (["arms.a=net=mlp", "arms.b=net=cnn", "launcher=slrum"], "did you mean slurm?"),
        (
            ["arms.a=net=mlp", "arms.b=net=cnn", "launcher=slurm", "launcher.tme=3"],
            "launcher.tme: there is no such key",
        ),
        (["arms.a=net=mlp", "arms.b=net=cnn", "launcher.time=3"], "an option of launcher=slurm"),
        (["arms.a=net=mlp", "arms.b=net=cnn", "scale=paper"], "belongs to a stored claim"),
        (["arms.a=net=mlp", "arms.b=net=mlp", "model=supervised/classifier"], "the same run"),
        (["arms.a=net=mpl", "arms.b=net=cnn", "model=supervised/classifier"], "arm a: net=mpl"),
        (["arms.a=net.width=8,16 net.depth=1,2", "arms.b=net=mlp", "model=supervised/classifier"], "over two keys"),
        (["arms.a=net=mlp,cnn", "arms.b=net=mlp", "model=supervised/classifier"], "a swept value is a number"),
        (
            ["arms.a=net=mlp", "arms.b=net=cnn", "model=supervised/classifier", "checks=a.x falls as net.width grows"],
            "not swept over net.width",
        ),
        (
            ["arms.a=net=mlp", "arms.b=net=cnn", "model=supervised/classifier", "checks=a[net.width=3].x < b.x"],
            "there is no point a[net.width=3]",
        ),
    ],
)
def test_mistakes_on_the_command_line(capfd, arguments, message):
    outcome = here(capfd, *arguments, program=compare)
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_only_a_stored_claim_as_it_stands_is_recorded():
    name = next(iter(choices("claim")))
    assert request([f"claim={name}"]).stored
    assert request([f"claim={name}", "launcher=slurm", "runs=elsewhere", "parallel=3"]).stored
    for change in ("seeds=[100,101]", "trainer.max_epochs=1", "metric=test/nll", "threads=2", "force=true"):
        assert not request([f"claim={name}", change]).stored


def test_help_lists_the_claims(capfd):
    outcome = here(capfd, "--help", program=compare)
    assert outcome.code == 0
    for name in choices("claim"):
        assert name in outcome.out
