"""The site, built once for all tests, with a result for every claim; and a browser to look at it."""

from __future__ import annotations

import fcntl
import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from compendium.config import ROOT
from tests.site.results import fill

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,1000")
PHONE = {"width": 390, "height": 844, "pixelRatio": 2.0}


def pytest_configure(config):
    config.addinivalue_line("markers", "browser: needs chromium and its driver; .ci/browser installs them")


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The folder of the built site; the first process that needs it builds it."""
    mine = tmp_path_factory.getbasetemp()
    shared = mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine
    folder = shared / "site"
    with open(shared / "site.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not folder.exists():
            build(shared / "site-results", shared / "site-runs", folder)
    return folder


def build(results: Path, runs: Path, folder: Path) -> None:
    """`mkdocs build --strict` with the results of a folder; moved into place when it is whole."""
    fill(results, runs)
    begun = folder.with_name("site-begun")
    command = [sys.executable, "-m", "tests.site.results", str(results), "build", "--strict", "--site-dir", str(begun)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    begun.rename(folder)


@pytest.fixture(scope="session")
def address(site) -> Iterator[str]:
    """The site as a browser reaches it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def opened(phone: bool = False):
    """A headless chromium.

    Without one the test is skipped, and says why; on CI, where `.ci/browser` has to have installed it, it fails.
    """
    from selenium import webdriver

    binary = next(filter(None, map(shutil.which, CHROMIUM)), None)
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no chromium with its driver: .ci/browser")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if phone:
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": PHONE})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


@pytest.fixture(scope="session")
def desktop():
    """A browser on a desk."""
    with opened() as browser:
        yield browser


@pytest.fixture(scope="session")
def phone():
    """A browser as wide as a phone."""
    with opened(phone=True) as browser:
        yield browser
