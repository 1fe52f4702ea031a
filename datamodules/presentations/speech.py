"""Prompts and answers as token ids: by a tokenizer that learns from the records, or by a model's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.extras import require
from compendium.hub import opened
from datamodules.presentations.tokenizers import TOKENIZERS
from datamodules.source import Text

PLAIN = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
"""How conversations are written where a tokenizer has no template of its own."""


class Speech(ABC):
    """A prompt and an answer as ids: what begins a text, the prompt, the answer, and the end.

    Attributes:
        vocabulary: number of tokens.
        end: the token that ends an answer.
    """

    vocabulary: int
    end: int

    def encoded(self, prompt: Text, answer: Text | None = None) -> tuple[Tensor, Tensor]:
        """A prompt and its answer -> ids of both, (T_p,) with T_p at least 1, and (T_a,), the end included.

        Without an answer the second is empty. Where the prompt is a conversation, so is the answer.

        Raises:
            UserError: a conversation whose template writes the prompt in another way once it is answered.
        """
        if isinstance(prompt, str):
            said = self.encode(answer) if isinstance(answer, str) else torch.empty(0, dtype=torch.int32)
            begun = self.begun(prompt)
            return begun, said if answer is None else torch.cat([said, said.new_tensor([self.end])])
        written = self.written(prompt, True)
        ids = self.encode(written) if len(written) else torch.tensor([self.end], dtype=torch.int32)
        if answer is None:
            return ids, ids[:0]
        messages = [{"role": "assistant", "content": answer}] if isinstance(answer, str) else answer
        whole = self.written([*prompt, *messages], False)
        if not whole.startswith(written):
            raise UserError(
                f"the chat template writes a prompt in another way once it is answered: '{written[-40:]}'.",
                "take a tokenizer whose template keeps what it wrote",
            )
        answered = self.encode(whole[len(written) :])
        if not len(answered) or answered[-1] != self.end:
            answered = torch.cat([answered, answered.new_tensor([self.end])])
        return ids, answered

    @abstractmethod
    def encode(self, text: str) -> Tensor:
        """Text -> ids (T,), nothing added."""

    @abstractmethod
    def decode(self, ids: Tensor) -> str:
        """Ids (T,) -> text, without what only the tokenizer knows of."""

    @abstractmethod
    def begun(self, prompt: str) -> Tensor:
        """A prompt that is no conversation -> ids (T,), with what begins a text; at least one."""

    @abstractmethod
    def written(self, messages: Sequence[Mapping[str, str]], answering: bool) -> str:
        """A conversation as text; `answering`: up to where the assistant is to speak."""

    @abstractmethod
    def save_pretrained(self, folder: str | Path) -> None:
        """Write what `transformers.AutoTokenizer.from_pretrained` reads."""


class OwnSpeech(Speech):
    """Bytes, characters or words, with the separator as the end.

    Args:
        name: `byte`, `character` or `word`.
        text: what a tokenizer learns from.
    """

    def __init__(self, name: str, text: str) -> None:
        self.tokenizer = TOKENIZERS[name](text)
        self.vocabulary, self.end = self.tokenizer.vocabulary, 0

    def encode(self, text: str) -> Tensor:
        return self.tokenizer.encode(text).to(torch.int32)

    def decode(self, ids: Tensor) -> str:
        return self.tokenizer.decode(ids[ids != self.end])

    def begun(self, prompt: str) -> Tensor:
        ids = self.encode(prompt)
        return ids if len(ids) else torch.tensor([self.end], dtype=torch.int32)

    def written(self, messages: Sequence[Mapping[str, str]], answering: bool) -> str:
        lines = "".join(f"{message['role']}: {message['content']}\n" for message in messages)
        return lines + "assistant: " * answering

    def save_pretrained(self, folder: str | Path) -> None:
        transformers = require("transformers", extra="language", needed_by="callbacks=pretrained")
        tokenizers = require("tokenizers", extra="language", needed_by="callbacks=pretrained")
        pieces = self.tokenizer.pieces()
        vocabulary = {piece: index for index, piece in enumerate(pieces)}
        ways = tokenizers.pre_tokenizers
        if self.tokenizer.splits == "bytes":
            made = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
            made.pre_tokenizer = ways.ByteLevel(add_prefix_space=False, use_regex=False)
            made.decoder = tokenizers.decoders.ByteLevel()
        else:
            made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, pieces[1]))
            if self.tokenizer.splits == "characters":
                made.pre_tokenizer = ways.Split(tokenizers.Regex("[\\s\\S]"), "isolated")
                made.decoder = tokenizers.decoders.Fuse()
            else:
                made.pre_tokenizer = ways.WhitespaceSplit()
        saved = transformers.PreTrainedTokenizerFast(
            tokenizer_object=made, eos_token=pieces[0], pad_token=pieces[0], clean_up_tokenization_spaces=False
        )
        saved.chat_template = PLAIN
        saved.save_pretrained(str(folder))


class PretrainedSpeech(Speech):
    """The tokenizer of a Hugging Face model, with its chat template.

    Args:
        name: `owner/name` on the hub, or a folder.

    Raises:
        UserError: no such folder or name, not on this machine and no network, a tokenizer without an end.
    """

    def __init__(self, name: str) -> None:
        transformers = require("transformers", extra="language", needed_by=f"datamodule.tokens={name}")
        self.tokenizer: Any = opened(transformers.AutoTokenizer.from_pretrained, name, "datamodule.tokens", "tokenizer")
        if self.tokenizer.eos_token_id is None:
            raise UserError(f"datamodule.tokens={name}: this tokenizer has no token that ends an answer (eos_token).")
        self.vocabulary, self.end = len(self.tokenizer), self.tokenizer.eos_token_id
        if self.tokenizer.chat_template is None:
            self.tokenizer.chat_template = PLAIN

    def encode(self, text: str) -> Tensor:
        return torch.tensor(self.tokenizer.encode(text, add_special_tokens=False), dtype=torch.int32)

    def decode(self, ids: Tensor) -> str:
        return self.tokenizer.decode(ids.tolist(), skip_special_tokens=True)

    def begun(self, prompt: str) -> Tensor:
        ids = torch.tensor(self.tokenizer.encode(prompt), dtype=torch.int32)
        if len(ids) > 1 and ids[-1] == self.end:  # some tokenizers end what they begin; the answer is still to come
            ids = ids[:-1]
        return ids if len(ids) else ids.new_tensor([self.end])

    def written(self, messages: Sequence[Mapping[str, str]], answering: bool) -> str:
        return self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=answering)

    def save_pretrained(self, folder: str | Path) -> None:
        self.tokenizer.save_pretrained(str(folder))


def speech(tokens: str, text: str) -> Speech:
    """What `datamodule.tokens` names: `byte`, `character` or `word`, learned from a text, or a model's own.

    Raises:
        UserError: see `PretrainedSpeech`.
    """
    return OwnSpeech(tokens, text) if tokens in TOKENIZERS else PretrainedSpeech(tokens)
