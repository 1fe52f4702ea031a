"""MkDocs asks here for the pages that are made from the claims, the results and the code."""

from __future__ import annotations

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from compendium.errors import UserError
from compendium.site import pages


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is made, and open the folders that the navigation names."""
    try:
        for uri, content in pages.generated():
            files.append(File.generated(config, uri, content=content))
    except UserError as error:
        raise PluginError(str(error)) from None
    config.nav = pages.navigation(config.nav, [file.src_uri for file in files])
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Complete a page."""
    if page.file.src_uri in pages.WIDE:
        page.meta.setdefault("hide", ["navigation"])
    return pages.completed(page.file.src_uri, markdown)
