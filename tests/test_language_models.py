"""A real folder of a language model, fine-tuned on a file of preferences by the command line alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers

from tests.command import here

SMALL = ("trainer=cpu", "logger=none", "callbacks=bare", "trainer.max_epochs=2", "datamodule.batch_size=4")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A model as one finds it, with sharded weights, a tokenizer file and a chat template, and preferences."""
    monkeypatch.chdir(tmp_path)
    made = tokenizers.ByteLevelBPETokenizer()
    made.train_from_iterator(
        ["the boats on the river bring bread and salt"] * 20, vocab_size=280, special_tokens=["</s>"]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made._tokenizer, eos_token="</s>", clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% if m['role'] == 'assistant' %}</s>{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    tokenizer.save_pretrained("model")
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        "llama", vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=False,
    )  # fmt: skip
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained("model", max_shard_size="40KB")
    assert len(list(Path("model").glob("*.safetensors"))) > 1
    rows = [
        {
            "prompt": [{"role": "user", "content": f"what brings boat {number}?"}],
            "chosen": [{"role": "assistant", "content": "bread and salt"}],
            "rejected": [{"role": "assistant", "content": "the river"}],
        }
        for number in range(24)
    ]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def arguments(home, *more):
    return (
        "model=preference/pairwise", "data=dialogues", "data.path=pairs.jsonl", "net=hf", "net.pretrained=model",
        "datamodule.tokens=model", f"runs={home}/runs", *SMALL, *more,
    )  # fmt: skip


def test_low_rank_adapters_are_trained_by_the_command_line_and_transformers_opens_the_result(home, capfd):
    done = here(capfd, *arguments(home, "net.lora=4", "optimizer.lr=0.02"))
    assert done.code == 0, done.err
    (folder,) = home.glob("runs/preference/pairwise/dialogues/*/pretrained")
    trained = transformers.AutoModelForCausalLM.from_pretrained(folder)
    before = transformers.AutoModelForCausalLM.from_pretrained("model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    changed = [
        name for name, weight in trained.state_dict().items() if not torch.equal(weight, before.state_dict()[name])
    ]
    assert changed
    assert all("proj" in name for name in changed)  # the linear layers, and neither embeddings nor norms
    asked = [{"role": "user", "content": "what brings boat 3?"}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert prompt == "[user]what brings boat 3?[assistant]"

    def margin(model):
        said = []
        for answer in ("bread and salt</s>", "the river</s>"):
            ids = tokenizer(prompt + answer, return_tensors="pt").input_ids
            start = len(tokenizer(prompt).input_ids)
            log_p = model(ids).logits.log_softmax(2)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
            said.append(float(log_p[start - 1 :].sum()))
        return said[0] - said[1]

    with torch.no_grad():
        assert margin(trained) > margin(before) + 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("net.pretrained=modle",), "net.pretrained=modle"),
        (("datamodule.tokens=byte", "data.path=pair.jsonl"), "did you mean pairs.jsonl"),
        (("net.lora=0",), "net.lora=0"),
    ],
    ids=["model", "data", "adapter"],
)
def test_a_mistake_is_one_line_and_leaves_nothing(home, capfd, monkeypatch, wrong, message):
    monkeypatch.setattr("compendium.hub.answers", lambda endpoint: False)
    done = here(capfd, *arguments(home, *wrong))
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert not list(home.glob("runs/**/*.ckpt"))


def test_a_line_that_is_wrong_is_named(home, capfd):
    with open("pairs.jsonl", "a") as file:
        file.write('{"prompt": "a", "chosen": "b"}\n')
    done = here(capfd, *arguments(home))
    assert done.code == 2
    assert "pairs.jsonl, line 25" in done.err
