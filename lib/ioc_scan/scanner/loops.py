"""The loops over the entries of a folder: where nearly all time of a scan goes, so the usual plans have their own.

One for objects with a size, one for names, one for hashes alone; everything else goes through
:func:`scan_any`. A question more, asked of every file, costs a scan some percent: so does a function call.
Each takes an open folder and its entries, looks at the files, and notes the names of the sub-folders.
"""

from __future__ import annotations

import os
import stat

from . import TYPE_CHECKING

if TYPE_CHECKING:
    from .folderscan import Entries, FolderScanner


def scan_sizes(
    scanner: FolderScanner, folder: int, entries: Entries, prefix: str, subfolders: list[str]
) -> int:
    """Files of exact sizes, by one lstat each."""
    masks = scanner.questions.size_masks
    files = 0
    for entry in entries:
        if entry.is_file(follow_symlinks=False):
            files += 1
            try:
                size = entry.stat(follow_symlinks=False).st_size
            except OSError as error:
                scanner.skip(prefix + entry.name, error)
                continue
            if size in masks:
                scanner.look(folder, entry, prefix, masks[size], False)
        elif entry.is_dir(follow_symlinks=False):
            subfolders.append(entry.name)
        else:
            scanner.skip_special(entry, prefix)
    return files


def scan_names(
    scanner: FolderScanner, folder: int, entries: Entries, prefix: str, subfolders: list[str]
) -> int:
    """Files of exact names: the listing says all. (Sets of a folder's names were slower, by 3 to 9 %.)"""
    names = scanner.questions.exact_names
    files = 0
    for entry in entries:
        if entry.is_file(follow_symlinks=False):
            files += 1
            if entry.name.casefold() in names:
                scanner.look(folder, entry, prefix, 0, True)
        elif entry.is_dir(follow_symlinks=False):
            subfolders.append(entry.name)
        else:
            scanner.skip_special(entry, prefix)
    return files


def scan_digests(
    scanner: FolderScanner, folder: int, entries: Entries, prefix: str, subfolders: list[str]
) -> int:
    """Files of one hash: each is read. 10 % less processor time than by way of :meth:`FolderScanner.look`."""
    algorithm, mask = scanner.only_algorithm
    known = scanner.questions.digests[0]
    buffer, vector, flags = scanner.buffer, scanner.vector, scanner.open_flags
    per_block, per_file = scanner.per_block, scanner.per_file
    read, close = os.readv, os.close
    files = hashed_files = hashed_bytes = 0
    for entry in entries:
        if entry.is_file(follow_symlinks=False):
            files += 1
            try:
                descriptor = os.open(entry.name, flags, dir_fd=folder)
            except OSError:
                scanner.look(folder, entry, prefix, mask, False)  # it knows other ways, and what to say
                continue
            try:
                size = read(descriptor, vector)
                value = algorithm(buffer[:size])
                while True:  # a read may give less than it was asked for: only nothing at all is the end
                    count = read(descriptor, vector)
                    if not count:
                        break
                    size += count
                    value.update(buffer[:count])
                    if per_block is not None:
                        per_block()
                digest = value.digest()
                hashed_files += 1
                hashed_bytes += size
                if digest in known:
                    info = os.fstat(descriptor)
                    if stat.S_ISREG(info.st_mode):
                        scanner.keep(prefix + entry.name, info, size, mask, [digest])
            except OSError as error:
                scanner.skip(prefix + entry.name, error)
            finally:
                close(descriptor)
            if per_file is not None:
                per_file()
        elif entry.is_dir(follow_symlinks=False):
            subfolders.append(entry.name)
        else:
            scanner.skip_special(entry, prefix)
    scanner.tally.hashed_files += hashed_files
    scanner.tally.hashed_bytes += hashed_bytes
    return files


def scan_any(
    scanner: FolderScanner, folder: int, entries: Entries, prefix: str, subfolders: list[str]
) -> int:
    """Any plan."""
    questions = scanner.questions
    any_mask = questions.any_size_mask
    mask_of = questions.size_masks.get
    ranges = questions.ranged_masks
    names = questions.exact_names
    asks_more = questions.asks_more
    needs_size = scanner.needs_size
    files = 0
    for entry in entries:
        if entry.is_file(follow_symlinks=False):
            files += 1
            mask = any_mask
            size = None
            if needs_size:
                try:
                    size = entry.stat(follow_symlinks=False).st_size
                except OSError as error:
                    scanner.skip(prefix + entry.name, error)
                    continue
                mask |= mask_of(size, 0)
                for low, high, wanted in ranges:
                    if low <= size <= high:
                        mask |= wanted
            if (names and entry.name.casefold() in names) or (
                asks_more and questions.needs_item(entry.name, prefix + entry.name, size)
            ):
                scanner.look(folder, entry, prefix, mask, True)
            elif mask:
                scanner.look(folder, entry, prefix, mask, False)
        elif entry.is_dir(follow_symlinks=False):
            subfolders.append(entry.name)
        else:
            scanner.skip_special(entry, prefix)
    return files
