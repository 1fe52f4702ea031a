"""What a person sees, by a real browser: pictures, search, no error, and pages that fit a phone."""

from __future__ import annotations

import pytest

from compendium.config import choices

pytestmark = pytest.mark.browser

CLAIM = f"claims/{next(iter(choices('claim')))}/"
PAGES = (
    "",
    "claims/",
    CLAIM,
    "papers/",
    "rooms/generative/",
    "guides/claim/",
    "reference/generative/",
    "reference/contracts/",
)
PATIENCE = 30
CUT_OFF = """
const scrolls = one => one && (/auto|scroll/.test(getComputedStyle(one).overflowX) || scrolls(one.parentElement));
return [...document.querySelectorAll('.md-content *')]
    .filter(one => one.getBoundingClientRect().right > window.innerWidth + 1 && !scrolls(one))
    .map(one => one.outerHTML.slice(0, 80));
"""
"""What lies beyond the right edge and in nothing that scrolls: the theme cuts it off, and the page does not scroll."""


def wait(browser, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, PATIENCE).until(condition)


def show(browser, address):
    """Open a page, and let it fetch everything at once."""
    browser.get(address)
    browser.execute_script("document.querySelectorAll('img').forEach(one => one.loading = 'eager')")
    wait(browser, lambda b: b.execute_script("return document.readyState") == "complete")
    wait(browser, lambda b: b.execute_script("return [...document.images].every(one => one.complete)"))


@pytest.mark.parametrize("page", PAGES)
def test_pictures_load_and_nothing_goes_wrong(desktop, address, page):
    show(desktop, address + page)
    widths = desktop.execute_script("return [...document.images].map(one => one.naturalWidth)")
    if page in ("", "claims/", CLAIM):
        assert widths
    assert all(widths)
    fetched = desktop.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
    assert fetched
    assert not [name for name in fetched if not name.startswith((address, "data:", "blob:"))]
    assert not [line for line in desktop.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]


def test_search_finds(desktop, address):
    from selenium.webdriver.common.by import By

    show(desktop, address)
    field = desktop.find_element(By.CSS_SELECTOR, "input.md-search__input")
    wait(desktop, lambda b: b.execute_script("return !!document.querySelector('.md-search__input')"))
    field.click()
    field.send_keys("stochastic")
    hits = wait(desktop, lambda b: b.find_elements(By.CSS_SELECTOR, ".md-search-result__item a.md-search-result__link"))
    assert any("albergo2023stochastic" in hit.get_attribute("href") for hit in hits)


@pytest.mark.parametrize("page", PAGES)
def test_a_phone_has_nothing_to_scroll_sideways(phone, address, page):
    show(phone, address + page)
    assert phone.execute_script("return window.innerWidth") == 390
    assert phone.execute_script("return document.documentElement.scrollWidth") <= 390
    assert phone.execute_script(CUT_OFF) == []


def test_the_pages_can_be_dark(desktop, address):
    show(desktop, address)
    scheme = "return document.body.getAttribute('data-md-color-scheme')"
    before = desktop.execute_script(scheme)
    desktop.execute_script("document.querySelector('.md-header__option label:not([hidden])').click()")
    wait(desktop, lambda b: b.execute_script(scheme) != before)
    assert {before, desktop.execute_script(scheme)} == {"default", "slate"}
