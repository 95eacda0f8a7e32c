"""Folders as descriptors: opened relative to their parent, so that no link on the way is ever followed."""

from __future__ import annotations

import os

OPEN_FOLDER = (
    os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
)


def open_folder(path: str) -> int:
    """A descriptor of a folder, walked to component by component from ``/``; links are errors.

    Raises OSError.
    """
    folder = os.open(os.sep, OPEN_FOLDER)
    try:
        for part in path.split(os.sep):
            if part:
                deeper = os.open(part, OPEN_FOLDER, dir_fd=folder)
                os.close(folder)
                folder = deeper
    except OSError:
        os.close(folder)
        raise
    return folder
