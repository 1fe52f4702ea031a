"""The machinery that composes a run, checks it, keeps it on disk and launches it. It knows no method by name."""

__version__ = "0.1.0"
