"""Reasons beside an objective: their texts, their likelihood, and what there is without them."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.presentations.preferences import DemonstrationData, PreferenceData
from datamodules.presentations.reasoned import ReasonedPreferenceData
from datamodules.sources.reasoned import Reasoned
from datamodules.sources.requests import Requests
from modules.preference.pairwise import PairwisePreference
from modules.preference.reasoned import ReasonedPreference

NET = {"_target_": "modules.networks.transformer.Transformer", "width": 8, "depth": 1, "heads": 1}
DPO = {"_target_": "modules.preference.objectives.referenced.DPO"}


def source():
    return Reasoned(train=40, validation=5, test=5)


def test_a_text_is_the_prompt_both_answers_and_the_reason():
    data = ReasonedPreferenceData(source())
    batch, dialogues = data.records("train", 8), data.dialogues
    for row, number in enumerate(data.rows["train"][:8].tolist()):
        chosen, rejected = dialogues.answers[number]
        # Words of the text as it is decoded, without what ends each part.
        whole = [word for word in data.speech.decode(batch.explained[row]).split() if word != "<end>"]
        said = data.speech.decode(batch.explained[row][batch.reason[row]]).split()
        expected = f"{dialogues.prompts[number]} {chosen} {rejected} {dialogues.reasons[number]}".split()
        assert [word for word in whole if word in expected][: len(expected)] == expected
        assert " ".join(said).startswith(dialogues.reasons[number])
        ends = (batch.explained[row] == data.end)[: int(batch.reason[row].nonzero().max()) + 1]
        assert int(ends.sum()) == 3
    assert batch.explained.shape[1] <= data.spec.shape[0]


def test_all_presentations_of_the_data_read_texts_of_one_length_and_vocabulary():
    """So that a policy that was fine-tuned on answers alone can go on with reasons."""
    specs = [kind(source()).spec for kind in (ReasonedPreferenceData, PreferenceData, DemonstrationData)]
    assert {(spec.shape, spec.vocabulary) for spec in specs} == {(specs[0].shape, specs[0].vocabulary)}


def test_the_loss_is_the_objective_s_and_the_likelihood_of_reasons():
    data = ReasonedPreferenceData(source())
    batch = data.records("train", 6)
    torch.manual_seed(0)
    method = ReasonedPreference(data.spec, DPO, gamma=0.3, net=NET).double()
    for weight in method.net.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    plain = PairwisePreference(data.spec, DPO, net=method.net)
    plain.noted = plain.noted.double()
    terms = method.loss(batch)
    torch.testing.assert_close(terms["preference"], plain.loss(batch))
    total = 0.0
    with torch.no_grad():
        for ids, mine in zip(batch.explained, batch.reason, strict=True):
            for place in mine.nonzero().flatten().tolist():
                total += float(method.net(ids[None, :place])[0, -1].log_softmax(0)[ids[place]])
    assert float(terms["reason"].detach()) == pytest.approx(-0.3 * total / 6)
    without = ReasonedPreference(data.spec, DPO, gamma=0.0, net=method.net)
    without.noted = without.noted.double()
    assert float(without.loss(batch)["reason"].detach()) == 0


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="nobody gives reasons"):
        ReasonedPreferenceData(Requests(train=10, validation=2, test=2)).setup()
    with pytest.raises(UserError, match=r"datamodule\.context=12 has no room"):
        ReasonedPreferenceData(source(), context=12).setup()
    with pytest.raises(UserError, match=r"model\.gamma=-1"):
        ReasonedPreference(ReasonedPreferenceData(source()).spec, DPO, gamma=-1, net=NET)
