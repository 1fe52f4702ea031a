"""Prompts and answers as ids: own tokenizers and those of Hugging Face, with their chat templates."""

from __future__ import annotations

import pytest
import tokenizers
import torch
import transformers

from compendium.errors import UserError
from datamodules.presentations.speech import OwnSpeech, PretrainedSpeech, speech

TEXT = "kindly describe rivers\0water, banks\n ünd"


@pytest.fixture
def folder(tmp_path):
    """A tokenizer as one finds it: byte-pair merges, a beginning, an end and a chat template."""
    made = tokenizers.ByteLevelBPETokenizer()
    made.train_from_iterator(
        ["kindly describe rivers and forests"] * 20, vocab_size=300, special_tokens=["<s>", "</s>"]
    )
    made._tokenizer.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", None, [("<s>", 0)])
    saved = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made._tokenizer, bos_token="<s>", eos_token="</s>", clean_up_tokenization_spaces=False
    )
    saved.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% if m['role'] == 'assistant' %}</s>{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    saved.save_pretrained(str(tmp_path / "tokenizer"))
    return str(tmp_path / "tokenizer")


@pytest.mark.parametrize("name", ["byte", "character", "word"])
def test_own_tokenizers_say_the_same_when_transformers_opens_them(name, tmp_path):
    own = OwnSpeech(name, TEXT)
    own.save_pretrained(tmp_path / "saved")
    other = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "saved"))
    for text in ("kindly describe banks", "water, rivers", "ünd so"):
        ids = own.encode(text)
        assert other.encode(text, add_special_tokens=False) == ids.tolist()
        assert other.decode(ids.tolist(), skip_special_tokens=True) == own.decode(ids)
    assert other.eos_token_id == own.end == 0
    assert len(other) == own.vocabulary


def test_an_answer_ends_and_a_prompt_is_never_empty():
    own = OwnSpeech("byte", "")
    prompt, answer = own.encoded("ab", "c")
    assert (prompt.tolist(), answer.tolist()) == ([97, 98], [99, 0])
    assert own.decode(answer) == "c"
    prompt, answer = own.encoded("", None)
    assert (prompt.tolist(), answer.tolist()) == ([0], [])


def test_conversations_are_written_by_the_template_and_answers_are_what_it_adds(folder):
    found = PretrainedSpeech(folder)
    library = transformers.AutoTokenizer.from_pretrained(folder)
    asked = [{"role": "user", "content": "describe rivers"}]
    said = [{"role": "assistant", "content": "and forests"}]
    prompt, answer = found.encoded(asked, said)
    assert library.decode(prompt.tolist()) == "<user>describe rivers<assistant>"
    assert answer[-1] == found.end == library.eos_token_id
    assert found.decode(answer) == "and forests"
    both = library.apply_chat_template(asked + said, tokenize=False)
    assert library.decode(torch.cat([prompt, answer]).tolist()) == both
    assert torch.equal(found.encoded(asked, "and forests")[1], answer)


def test_a_plain_prompt_begins_as_the_model_wants_and_does_not_end(folder):
    found = PretrainedSpeech(folder)
    prompt, answer = found.encoded("describe", "rivers")
    assert prompt[0] == 0
    assert answer[-1] == 1
    assert 1 not in prompt.tolist()
    assert 0 not in answer.tolist()


def test_conversations_have_a_plain_form_where_there_is_no_template(folder):
    plain = OwnSpeech("byte", "")
    prompt, answer = plain.encoded([{"role": "user", "content": "hi"}], "ho")
    assert plain.decode(prompt) == "user: hi\nassistant: "
    assert plain.decode(answer) == "ho\n"


def test_a_template_that_rewrites_the_prompt_is_refused(folder):
    found = PretrainedSpeech(folder)
    found.tokenizer.chat_template = "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(UserError, match="writes a prompt in another way"):
        found.encoded([{"role": "user", "content": "hi"}], "ho")


def test_what_is_no_tokenizer_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="does not load as a tokenizer"):
        speech(str(tmp_path / "empty"), "")
    with pytest.raises(UserError, match="there is no 'absent'"):
        speech(str(tmp_path / "absent"), "")
    monkeypatch.setattr("compendium.hub.answers", lambda endpoint: False)
    with pytest.raises(UserError, match=r"datamodule\.tokens=nobody/nothing is not on this machine.*cannot be reached"):
        speech("nobody/nothing", "")
