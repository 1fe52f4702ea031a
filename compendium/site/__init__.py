"""The pages that MkDocs does not find as files: made from the claims, the results, the bibliography and the code.

claims.py     the gallery, a page and a picture per claim, the latest verdicts
rooms.py      what stands under the prose of a room: its papers, claims and modules
reference.py  the pages of the reference, a line per module that mkdocstrings fills
pages.py      all of them together, as `docs/hooks.py` hands them to MkDocs
text.py       Markdown from plain text
"""
