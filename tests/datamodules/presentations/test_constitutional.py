"""Labels by a language model: from its probabilities of two options, whichever stands first, under one principle."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compendium.errors import UserError
from datamodules.presentations.constitutional import ConstitutionalData
from datamodules.sources.bandit import Bandit
from datamodules.sources.conduct import Conduct
from datamodules.sources.requests import Requests
from modules.method import Method
from tests.modules.test_contract import planned, trained

SIZES = {"train": 60, "validation": 8, "test": 16}
PRINCIPLES = ["serve humanity", "avoid risk"]


@pytest.fixture(scope="module")
def labeller(tmp_path_factory):
    """A policy that has seen a few lessons, with weights large enough that its options differ."""
    sizes = [f"data.{split}={size}" for split, size in SIZES.items()]
    run = planned(
        "preference/fine_tuning", tmp_path_factory.mktemp("labeller"), "data=conduct", "data.role=teaching", *sizes,
        "net=scaled_transformer", "net.width=8", "net.heads=2", "optimizer.lr=0.03", "trainer.max_epochs=4",
        "trainer.limit_train_batches=1.0",
    )  # fmt: skip
    return str(Path(trained(run).trainer.default_root_dir) / "checkpoints/last.ckpt")


def data(source=None, **arguments):
    return ConstitutionalData(source or Conduct(**SIZES), **arguments)


def asked(method, speech, question):
    """The probability of A, one of A and B, by hand and one question at a time."""
    ids = speech.begun(question)[None].long()
    logits = method.net(ids)[0, -1]
    first, second = (int(speech.encode(option)) for option in ("A", "B"))
    return float(torch.sigmoid(logits[first] - logits[second]))


def test_a_label_is_the_mean_over_both_orders_of_what_the_labeller_says(labeller):
    presented = data(labeller=labeller, constitution=PRINCIPLES[:1])
    batch, method = presented.records("train"), Method.load_from_checkpoint(labeller)
    dialogues = presented.dialogues
    firsts, liking = presented.columns["first"], []
    assert torch.equal(batch.first, firsts[presented.rows["train"]])
    with torch.no_grad():
        for row in presented.rows["train"].tolist()[:20]:
            prompt, (one, other) = dialogues.prompts[row], dialogues.answers[row]
            ways = [
                asked(method, presented.speech, f"{prompt} A {a} B {b} serve humanity")
                for a, b in ((one, other), (other, one))
            ]
            assert float(firsts[row]) == pytest.approx((ways[0] + 1 - ways[1]) / 2, abs=1e-5)
            liking.append(abs(ways[0] + ways[1] - 1))
    assert max(liking) > 1e-3  # in one order alone it likes a place
    assert (presented.records("test").first == 1).all()
    assert torch.equal(presented.records("test").row, torch.full((16,), -1))


def test_each_pair_is_labelled_by_one_of_the_principles(labeller):
    alone = [data(labeller=labeller, constitution=[one]).records("train").first for one in PRINCIPLES]
    mixed = data(labeller=labeller, constitution=PRINCIPLES)
    both = mixed.records("train").first
    is_first = torch.isclose(both, alone[0], atol=1e-6)
    is_second = torch.isclose(both, alone[1], atol=1e-6)
    assert (is_first | is_second).all()
    assert 15 < int((is_first & ~is_second).sum()) < 45
    assert torch.equal(data(labeller=labeller, constitution=PRINCIPLES).records("train").first, both)


def test_a_labeller_who_looks_at_the_place_alone_says_one_half_and_turning_a_pair_turns_its_label(labeller):
    presented = data(labeller=labeller)
    presented.setup()
    method = Method.load_from_checkpoint(labeller)
    rows = presented.rows["train"].tolist()[:10]
    with torch.no_grad():
        forth = presented.asked(method, rows, [0] * 10)
        presented.dialogues.answers = [tuple(pair[::-1]) for pair in presented.dialogues.answers]
        torch.testing.assert_close(presented.asked(method, rows, [0] * 10), 1 - forth, rtol=0, atol=1e-6)

        class Place:
            def answer_log_probs(self, ids, said):
                return torch.where(ids[said] == int(presented.speech.encode("A")), -0.1, -2.4)

        torch.testing.assert_close(presented.asked(Place(), rows, [0] * 10), torch.full((10,), 0.5))


def test_without_a_labeller_scores_say_it():
    for source, temperature in ((Conduct(**SIZES), 0.25), (Requests(temperature=2.0, **SIZES), 2.0)):
        presented = data(source)
        batch = presented.records("train")
        scores = presented.columns["score"].view(-1, 2)[presented.rows["train"]]
        expected = torch.sigmoid((scores[:, 0] - scores[:, 1]) / temperature)
        torch.testing.assert_close(batch.first, expected)
        assert torch.equal(batch.row, torch.arange(60))


def test_what_cannot_be_labelled_is_refused(labeller, tmp_path):
    for wrong, said in (
        ({"constitution": []}, "constitution is empty"),
        ({"text": "{prompt} {first} {principle}"}, "a question with"),
        ({"options": ["A"]}, "two options"),
    ):
        with pytest.raises(UserError, match=said):
            data(**wrong)
    with pytest.raises(UserError, match="are no text"):
        data(Bandit(), labeller=labeller).setup()
    with pytest.raises(UserError, match="has other tokens"):
        data(Requests(**SIZES), labeller=labeller).setup()
    other = trained(planned("supervised/classifier", tmp_path, "data=wine", "net=mlp"))
    with pytest.raises(UserError, match="no Policy"):
        data(labeller=f"{other.trainer.default_root_dir}/checkpoints/last.ckpt").setup()
