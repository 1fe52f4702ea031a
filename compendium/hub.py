"""What the Hugging Face hub has: asked for once, with an answer of one line where it cannot be reached."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from compendium.errors import UserError
from datamodules.sources.checks import existing

T = TypeVar("T")

PATIENCE = 3.0
"""Seconds within which a hub's host has to answer."""


def is_local(name: str) -> bool:
    """Whether a name is that of a folder, or is written as one."""
    return name.startswith((".", "/", "~")) or Path(name).is_dir()


def opened(load: Callable[..., T], name: str, where: str, what: str, **options: Any) -> T:
    """`load(name, **options)`, of a folder or of the hub.

    Args:
        load: such as `AutoTokenizer.from_pretrained`.
        name: `owner/name` on the hub, or a folder.
        where: who named it, for messages: `net.pretrained`.
        what: it is to be, for messages: `tokenizer`.
        options: of `load`.

    Raises:
        UserError: no such folder, nothing of the kind in it, not on this machine and no network.
    """
    local = is_local(name)
    if local:
        name = str(existing(name, where))
    try:
        with contextlib.nullcontext() if local else reachable_or_offline() as offline:
            return load(name, **options)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError) as error:
        if not local and offline:
            raise UserError(
                f"{where}={name} is not on this machine, and the Hugging Face hub cannot be reached.",
                f"download it where there is a network, and give the folder: {where}=FOLDER",
            ) from None
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{where}={name} does not load as a {what}: {first}") from None


@contextlib.contextmanager
def reachable_or_offline() -> Iterator[bool]:
    """Within it the hub's libraries know whether there is a network, and do not ask again and again.

    Yields:
        Whether there is none.
    """
    import huggingface_hub.constants as hub

    offline = hub.HF_HUB_OFFLINE or not answers(hub.ENDPOINT)
    known: list[Any] = [
        module for name in ("huggingface_hub.constants", "datasets.config") if (module := sys.modules.get(name))
    ]
    before = [module.HF_HUB_OFFLINE for module in known]
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    try:
        for module in known:
            module.HF_HUB_OFFLINE = offline
        if offline:
            logger.setLevel(logging.CRITICAL)
        yield offline
    finally:
        logger.setLevel(level)
        for module, value in zip(known, before, strict=True):
            module.HF_HUB_OFFLINE = value


def answers(endpoint: str) -> bool:
    """Whether somebody answers at an address; behind a proxy, which alone knows, it is taken to be so."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    parts = urlsplit(endpoint)
    try:
        with socket.create_connection((parts.hostname, parts.port or 443), PATIENCE):
            return True
    except OSError:
        return False
