"""Text as token ids, without a library: bytes, characters, and words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

SEPARATOR = "\0"
"""Stands between documents; token 0 of both tokenizers."""


class Tokenizer(Protocol):
    """Text to ids and back."""

    vocabulary: int
    """Number of tokens."""

    def encode(self, text: str) -> Tensor:
        """Text -> ids (T,), uint8 where they fit, else int32."""
        ...

    def decode(self, ids: Tensor) -> str:
        """Ids (T,) -> text."""
        ...

    def pieces(self) -> list[str]:
        """What each id stands for, as a tokenizer of Hugging Face has it."""
        ...


class Bytes:
    """The 256 bytes of UTF-8; nothing is unknown."""

    vocabulary = 256
    splits = "bytes"

    def __init__(self, text: str = "") -> None:
        """`text` is not looked at: there is nothing to learn."""

    def encode(self, text: str) -> Tensor:
        found = bytearray(text.encode("utf-8", "surrogatepass"))
        return torch.frombuffer(found, dtype=torch.uint8) if found else torch.empty(0, dtype=torch.uint8)

    def decode(self, ids: Tensor) -> str:
        return bytes(ids.tolist()).decode("utf-8", "replace")

    def pieces(self) -> list[str]:
        # GPT-2's letters for bytes: those that can be seen stand for themselves, the others for letters from 256 on.
        seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = iter(range(256, 512))
        return [chr(byte if byte in seen else next(others)) for byte in range(256)]


class Characters:
    """The characters of a text: 0 is the separator, 1 any character that the text lacks, the others by code point.

    Args:
        text: the training text.
    """

    UNKNOWN = "\ufffd"
    splits = "characters"

    def __init__(self, text: str) -> None:
        self.characters = sorted(set(text) - {SEPARATOR, self.UNKNOWN})
        self.vocabulary = 2 + len(self.characters)
        self.table = np.ones(0x110000, dtype=np.uint8 if self.vocabulary <= 256 else np.int32)
        self.table[ord(SEPARATOR)] = 0
        self.table[[ord(character) for character in self.characters]] = np.arange(2, self.vocabulary)

    def encode(self, text: str) -> Tensor:
        return torch.from_numpy(self.table[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")])

    def decode(self, ids: Tensor) -> str:
        alphabet = self.pieces()
        return "".join(alphabet[index] for index in ids.tolist())

    def pieces(self) -> list[str]:
        return [SEPARATOR, self.UNKNOWN, *self.characters]


class SpacedWords:
    """What stands between spaces: 0 is the separator, 1 any word that a text lacks, the others in their order.

    Args:
        text: the training text.
    """

    UNKNOWN = "\ufffd"
    splits = "words"

    def __init__(self, text: str) -> None:
        self.words = [SEPARATOR, self.UNKNOWN, *sorted(set(self.split(text)) - {SEPARATOR, self.UNKNOWN})]
        self.ids = {word: index for index, word in enumerate(self.words)}
        self.vocabulary = len(self.words)

    @staticmethod
    def split(text: str) -> list[str]:
        """Text -> its words and separators."""
        return re.findall(r"\0|[^\s\0]+", text)

    def encode(self, text: str) -> Tensor:
        return torch.tensor([self.ids.get(word, 1) for word in self.split(text)], dtype=torch.int32)

    def decode(self, ids: Tensor) -> str:
        return " ".join(self.words[index] for index in ids.tolist())

    def pieces(self) -> list[str]:
        return self.words


class Words:
    """Words and punctuation marks in lower case: 0 fills captions up, 1 is any word that is not known.

    Args:
        known: the words, in the order of their ids from 2 on.
    """

    UNKNOWN = "\ufffd"

    def __init__(self, known: Iterable[str]) -> None:
        self.words = ("", self.UNKNOWN, *known)
        self.ids = {word: index for index, word in enumerate(self.words)}

    @staticmethod
    def split(text: str) -> list[str]:
        """Text -> its words and punctuation marks."""
        return re.findall(r"\w+|[^\w\s]", text.lower())

    def encode(self, text: str, length: int) -> Tensor:
        """Text -> ids int64 (length,), cut off or filled up with 0."""
        ids = [self.ids.get(word, 1) for word in self.split(text)[:length]]
        return torch.tensor(ids + [0] * (length - len(ids)))

    def decode(self, ids: Tensor) -> str:
        """Ids (T,), negative ones for nothing -> text, words apart by spaces."""
        return " ".join(self.words[index] for index in ids.tolist() if index > 0)


TOKENIZERS: dict[str, type[Bytes | Characters | SpacedWords]] = {
    "byte": Bytes,
    "character": Characters,
    "word": SpacedWords,
}
