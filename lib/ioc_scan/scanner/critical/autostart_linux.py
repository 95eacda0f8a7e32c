"""Where Linux keeps what starts by itself, below ``root``; each object with the programs it names."""

from __future__ import annotations

import os
import re
import shlex
from typing import Callable, Iterator, NamedTuple

from ..documents import unitfiles
from .area import Area


class Found(NamedTuple):
    """An object: where it is, whose it is (None: the system's), which programs it starts."""

    path: str
    owner: int | None
    programs: list[str]


_MAX_BYTES = 256 * 1024
#: Folders in which every file is started or read when the system or a session starts.
_FOLDERS = (
    "/etc/init.d", "/etc/rc.d", "/etc/profile.d", "/etc/update-motd.d", "/etc/cron.hourly", "/etc/cron.daily",
    "/etc/cron.weekly", "/etc/cron.monthly", "/etc/X11/Xsession.d", "/etc/X11/xinit/xinitrc.d",
    "/etc/network/if-up.d", "/etc/network/if-pre-up.d", "/etc/NetworkManager/dispatcher.d",
    "/etc/modules-load.d", "/etc/ld.so.conf.d", "/usr/lib/systemd/system-generators",
    "/etc/systemd/system-generators", "/usr/local/lib/systemd/system-generators",
    "/lib/systemd/system-shutdown", "/etc/dhcp/dhclient-exit-hooks.d", "/etc/apm/event.d",
)  # fmt: skip
_FILES = (
    "/etc/rc.local", "/etc/inittab", "/etc/profile", "/etc/bash.bashrc", "/etc/bashrc", "/etc/zsh/zshrc",
    "/etc/zsh/zshenv", "/etc/environment", "/etc/ld.so.preload", "/etc/modules",
)  # fmt: skip
_OF_USERS = (
    ".profile", ".bash_profile", ".bash_login", ".bashrc", ".bash_logout", ".zshrc", ".zshenv", ".zprofile",
    ".xinitrc", ".xsession", ".xprofile", ".config/fish/config.fish",
)  # fmt: skip
_CRON_TABLES = ("/etc/crontab", "/etc/anacrontab")
_CRON_FOLDERS = (("/etc/cron.d", True), ("/var/spool/cron/crontabs", False), ("/var/spool/cron", False))
_STARTS = ("ExecStart", "ExecStartPre", "ExecStartPost", "ExecStop", "ExecReload")
#: @reboot, or five fields of time; /etc/anacrontab has two fields and a name.
_CRON_LINE = re.compile(r"(?:@\w+|(?:[-\d*/,A-Za-z]+\s+){4}[-\d*/,A-Za-z]+)\s+(.+)")
_INTERPRETERS = (
    "sh",
    "bash",
    "dash",
    "python",
    "python3",
    "perl",
    "ruby",
    "env",
    "nice",
    "nohup",
    "sudo",
    "exec",
)
_UDEV_RUN = re.compile(r'(?:RUN|PROGRAM|IMPORT)\S*?\+?=+"([^"]+)"')


def objects(root: str, area: Area) -> Iterator[Found]:
    """All objects that are there."""
    for folder in _FOLDERS:
        for path in _files(root + folder, area):
            yield Found(path, None, [])
    for name in _FILES:
        if os.path.lexists(root + name):
            yield Found(root + name, None, _preloads(root + name) if "preload" in name else [])
    yield from _units(root, unitfiles.SYSTEM_FOLDERS, None)
    yield from _units(root, unitfiles.USER_FOLDERS, None)
    yield from _cron(root, area)
    for folder in ("/etc/udev/rules.d", "/lib/udev/rules.d", "/usr/lib/udev/rules.d"):
        for path in _files(root + folder, area):
            yield Found(path, None, _absolute(_UDEV_RUN.findall(_text(path)), str.split))
    for path in _files(root + "/etc/xdg/autostart", area):
        yield Found(path, None, _desktop(path))
    yield from _homes(root, area)


def _files(folder: str, area: Area) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.path for entry in entries if not entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        area.refuse(f"{folder}: {error.strerror}")
        return []


def _text(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            return os.fsdecode(stream.read(_MAX_BYTES))
    except OSError:
        return ""


def _absolute(commands: list[str], split: Callable[[str], list[str]] = shlex.split) -> list[str]:
    """Full paths of the programs in these command lines, and of scripts that an interpreter is told to run."""
    found: dict[str, None] = {}
    for command in commands:
        for part in re.split(r"[;&|]+", command):
            try:
                words = split(part)
            except ValueError:
                words = part.split()
            for word in words[:8]:
                if re.match(r"/[^\s<>*?$`%]+\Z", word):
                    found[word] = None
                if word[0] != "-" and "=" not in word and not word.endswith(_INTERPRETERS):
                    break
    return list(found)


def _preloads(path: str) -> list[str]:
    return [word for word in _text(path).split() if word.startswith("/")]


def _units(root: str, folders: tuple[str, ...], owner: int | None) -> Iterator[Found]:
    """Units of systemd that can start something, with their drop-ins."""
    suffixes = (".service", ".timer", ".socket", ".path", ".mount")
    for unit in unitfiles.units(folders, root, suffixes):
        if unit.mode in ("masked", "alias"):
            continue
        programs = [words[0] for words in unitfiles.commands(unit, _STARTS) if words[0].startswith("/")]
        yield Found(unit.files[0], owner, list(dict.fromkeys(programs)))
        for path in unit.files[1:]:
            yield Found(path, owner, [])


def _cron(root: str, area: Area) -> Iterator[Found]:
    for name in _CRON_TABLES:
        if os.path.lexists(root + name):
            yield Found(root + name, None, _cron_programs(root + name, True))
    for folder, names_user in _CRON_FOLDERS:
        for path in _files(root + folder, area):
            owner = None if names_user else _owner(path)
            yield Found(path, owner, _cron_programs(path, names_user))
    for path in _files(root + "/var/spool/cron/atjobs", area) + _files(root + "/var/spool/at", area):
        yield Found(path, _owner(path), [])


def _cron_programs(path: str, names_user: bool) -> list[str]:
    commands = []
    for line in _text(path).splitlines():
        match = _CRON_LINE.match(line.strip())
        if match is not None and not line.lstrip().startswith("#"):
            command = match.group(1)
            commands.append(command.partition(" ")[2].strip() if names_user else command)
    return _absolute(commands)


def _owner(path: str) -> int | None:
    try:
        return os.lstat(path).st_uid
    except OSError:
        return None


def _desktop(path: str) -> list[str]:
    lines = [line.partition("=") for line in _text(path).splitlines()]
    return _absolute([value for key, _, value in lines if key.strip() == "Exec"])


def _homes(root: str, area: Area) -> Iterator[Found]:
    """What users start when they log on; their own files may belong to them."""
    seen = set()
    for line in _text(root + "/etc/passwd").splitlines():
        fields = line.split(":")
        if len(fields) < 7 or not fields[2].isdigit() or fields[5] in ("", "/", "/nonexistent"):
            continue
        home, owner = root + fields[5], int(fields[2])
        if home in seen or not os.path.isdir(home):
            continue
        seen.add(home)
        for name in _OF_USERS:
            path = os.path.join(home, name)
            if os.path.lexists(path):
                yield Found(path, owner, [])
        for path in _files(os.path.join(home, ".config/autostart"), area):
            yield Found(path, owner, _desktop(path))
        yield from _units(home, ("/.config/systemd/user", "/.local/share/systemd/user"), owner)
