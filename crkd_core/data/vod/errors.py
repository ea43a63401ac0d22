"""The one error of this room."""

from __future__ import annotations


class VodError(ValueError):
    """A folder or a file that is not what View-of-Delft defines; names it."""
