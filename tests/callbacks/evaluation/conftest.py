"""Evaluation tests keep their feature networks in a folder of their own."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache_folder(cache, monkeypatch):
    monkeypatch.setenv("COMPENDIUM_CACHE", str(cache))
