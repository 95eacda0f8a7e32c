"""Which folders a scan enters: the scopes, and what is left out of them unless asked for."""

from __future__ import annotations

import os
import sys

from . import TYPE_CHECKING
from .mounts import (
    KERNEL_FILE_SYSTEMS,
    LAYER_FILE_SYSTEMS,
    NETWORK_FILE_SYSTEMS,
    TMP_FOLDERS,
    mounts,
    private_tmp,
)
from .names import shown_path

if TYPE_CHECKING:
    from typing import Any, Callable

    from .walk import Frame

#: Where malware lives on Linux: what people and services write, what starts by itself, what a download
#: leaves.
_CRITICAL_LINUX = (
    "/tmp", "/var/tmp", "/dev/shm", "/home", "/root", "/etc", "/opt", "/srv", "/usr/local", "/run/user",
    "/var/www",
    "/var/spool", "/var/lib/systemd", "/usr/lib/systemd", "/lib/systemd", "/usr/share/autostart",
)  # fmt: skip
_CRITICAL_MACOS = (
    "/Applications",
    "/Library",
    "/Users",
    "/private/tmp",
    "/private/var/tmp",
    "/usr/local",
    "/opt",
)
#: The operating system itself, and all of the critical areas.
_SYSTEM_LINUX = ("/bin", "/boot", "/lib", "/lib32", "/lib64", "/sbin", "/usr", "/var")
_SYSTEM_MACOS = ("/System", "/bin", "/sbin", "/usr", "/private/var")

#: Layers of containers: the same files again, once per image and container.
_LAYER_FOLDERS = (
    "/var/lib/docker/overlay2", "/var/lib/docker/aufs", "/var/lib/docker/image", "/var/lib/containerd",
    "/var/lib/containers/storage/overlay",
)  # fmt: skip


class Scope:
    """The folders of one scan.

    ``roots`` have no links in them; ``excluded`` says why a folder is left out.
    """

    def __init__(self, settings: dict[str, Any], device_root: str | None, own: list[str]) -> None:
        """``own``: folders of the scanner itself (spool, quarantine), never entered. Raises OSError."""
        self._reasons: dict[str, str] = {}
        for path in own:
            self._reasons[_key(os.path.realpath(path))] = "own_spool"
        scope = settings.get("scope", "custom" if settings.get("roots") else "critical")
        network = bool(settings.get("network_file_systems", False))
        #: Folders whose real content cannot be seen from here: (path, reason), to be told as not evaluated.
        self.not_evaluated: list[tuple[str, str]] = []
        self.roots = self._find_roots(scope, settings.get("roots", []), device_root, network)
        self._exclude_mounts(network)
        if device_root is None and private_tmp():
            self._exclude_private_tmp()
        patterns = []
        for exclude in settings.get("excludes", []):
            if any(character in exclude for character in "*?["):
                patterns.append(exclude)
            else:
                # As it is spelled, and where it leads: the walk knows folders by their real paths.
                for path in (exclude.rstrip(os.sep) or os.sep, os.path.realpath(exclude)):
                    self._reasons[_key(path)] = "excluded"
        self._pattern = _one_pattern(patterns) if patterns else None
        if self._pattern is None and os.name != "nt":
            self.excluded: Callable[[str], str | None] = self._reasons.get
        else:
            self.excluded = self._excluded_by_pattern

    def prunes(self) -> list[str] | None:
        """The excluded folders inside the roots, or None if patterns exclude more than can be listed."""
        if self._pattern is not None or os.name == "nt":
            return None
        prefixes = tuple(root.rstrip(os.sep) + os.sep for root in self.roots)
        return sorted(path for path in self._reasons if path.startswith(prefixes))

    def frames(self) -> list[Frame]:
        """The start of a walk: each root itself."""
        return [(root, [""]) for root in self.roots]

    def _excluded_by_pattern(self, path: str) -> str | None:
        reason = self._reasons.get(_key(path))
        return "excluded" if reason is None and self._pattern is not None and self._pattern(path) else reason

    def _find_roots(self, scope: str, wanted: list[str], device_root: str | None, network: bool) -> list[str]:
        if device_root is not None and scope != "custom":
            names = [device_root]
        elif scope == "custom":
            names = wanted
        elif os.name == "nt":
            names = self._windows_folders(scope, network)
        elif scope == "all":
            names = [os.sep]
        else:
            macos = sys.platform == "darwin"
            names = list(_CRITICAL_MACOS if macos else _CRITICAL_LINUX)
            if scope == "system":
                names += _SYSTEM_MACOS if macos else _SYSTEM_LINUX
            names = [name for name in names if os.path.isdir(name)]
        roots = sorted({os.path.realpath(name) for name in names})
        if device_root is not None:
            base = device_root.rstrip(os.sep) + os.sep
            outside = [root for root in roots if not _key(root + os.sep).startswith(_key(base))]
            if outside:
                raise PermissionError(1, "outside this device's folder tree: " + shown_path(outside[0]))
        # A root inside another one would be looked at twice.
        kept: list[str] = []
        for root in roots:
            if not any(_is_inside(root, other) for other in kept):
                kept.append(root)
        return kept

    def _windows_folders(self, scope: str, network: bool) -> list[str]:
        from .winplaces import choose_drives, critical_folders, drive_kinds, system_folders

        if scope != "all":
            names = system_folders() if scope == "system" else critical_folders()
        else:
            names, left_out = choose_drives(drive_kinds(), network)
            self.not_evaluated += left_out
        return [name for name in names if os.path.isdir(name)]

    def _exclude_private_tmp(self) -> None:
        for folder in TMP_FOLDERS:
            if folder not in self.roots or len(self.roots) > 1:  # asked for alone: then it is meant
                self.roots = [root for root in self.roots if root != folder]
                self._reasons[folder] = "private_tmp"
                self.not_evaluated.append((folder, "private_tmp"))

    def _exclude_mounts(self, network: bool) -> None:
        for mount in mounts():
            if mount.point in self.roots:
                continue  # asked for by name
            if mount.kind in KERNEL_FILE_SYSTEMS:
                self._reasons[mount.point] = "kernel_file_system"
            elif mount.kind in NETWORK_FILE_SYSTEMS and not network:
                self._reasons[mount.point] = "network_file_system"
            elif mount.kind in LAYER_FILE_SYSTEMS:
                self._reasons[mount.point] = "container_layer"
        for folder in _LAYER_FOLDERS:
            if folder not in self.roots:
                self._reasons.setdefault(folder, "container_layer")


def _key(path: str) -> str:
    """How a path is looked up: the names of Windows do not differ by case."""
    return path.lower() if os.name == "nt" else path


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or _key(path).startswith(_key(folder).rstrip(os.sep) + os.sep)


def _one_pattern(patterns: list[str]) -> Callable[[str], Any]:
    """What says whether a path fits one of several patterns of the shell's kind."""
    import re  # most scans have no patterns
    from fnmatch import translate

    flags = re.IGNORECASE if os.name == "nt" else 0
    return re.compile("|".join(map(translate, patterns)), flags).match
