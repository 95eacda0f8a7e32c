"""What kind of file or place something is, by type text, name and path; for Windows and POSIX alike."""

from __future__ import annotations

import ntpath
import posixpath
import re

# libmagic's words for what a machine runs
_PROGRAM_TYPE = re.compile(
    r"\b(PE32|MS-DOS executable|ELF|Mach-O|Java archive|MSI Installer|MS Windows shortcut|"
    r"DOS batch file|shell script|Python script|Perl script|PowerShell|Dalvik|COM executable)",
    re.IGNORECASE,
)
_PROGRAM_NAME = re.compile(
    r"\.(exe|dll|sys|scr|cpl|ocx|com|pif|msi|msp|drv|bat|cmd|ps1|psm1|vbs|vbe|js|jse|wsf|wsh|hta|lnk|jar|"
    r"sct|wpl|inf|reg|chm|xll|sh|elf|so|dylib|command|py|pl|apk)\Z",
    re.IGNORECASE,
)
# types that contradict a program's name: an encrypted or truncated leftover is no program
_DATA_TYPE = re.compile(r"\A(data|empty|very short file)\b", re.IGNORECASE)

_DEVICE = re.compile(
    r"\A(\\\\[.?]\\|\\\?\?\\|\\Device\\|\\\\[^\\]+\\(pipe|mailslot)\\|/dev/|/proc/|/sys/)", re.IGNORECASE
)
_LONG_PATH = re.compile(r"\A(\\\\\?\\|\\\?\?\\)(?=[A-Za-z]:\\)")

_SYSTEM = re.compile(
    r"\A(?:[a-z]:\\(?:windows|winnt|program files(?: \(x86\))?|perflogs|recovery|boot|\$recycle\.bin|"
    r"system volume information)(?:\\|\Z)|"
    r"/(?:usr|bin|sbin|lib|lib32|lib64|libx32|boot|etc|opt|system|library)(?:/|\Z))"
)
# inside the system's folders, yet anybody may write there
_OPEN_IN_SYSTEM = re.compile(
    r"\A[a-z]:\\windows\\(?:temp|tasks|tracing|debug\\wia|system32\\(?:tasks|spool\\drivers\\color|microsoft\\crypto\\rsa\\machinekeys)|"
    r"syswow64\\tasks|registration\\crmlog)\\"
)
_USER_WRITABLE = re.compile(
    r"\A(?:[a-z]:\\(?:users|documents and settings)\\[^\\]+\\|[a-z]:\\users\\public\\|[a-z]:\\programdata\\|"
    r"[a-z]:\\[^\\]+\Z|[a-z]:\\temp\\|[a-z]:\\windows\\temp\\|%[a-z]+%\\|/tmp/|/var/tmp/|/dev/shm/|/home/[^/]+/|/root/|/users/[^/]+/)"
)
_VICTIM = re.compile(
    r"\A(?:[a-z]:\\(?:users|documents and settings)\\[^\\]+\\(?:desktop|documents|my documents|pictures|"
    r"music|videos|downloads|favorites|contacts|links|saved games|searches|onedrive)\\|"
    r"/(?:home|users)/[^/]+/(?:desktop|documents|pictures|music|videos|downloads)/)"
)
_USER_PART = re.compile(r"(?i)\A([a-z]:\\(?:users|documents and settings)\\)([^\\]+)(\\)")
_POSIX_USER_PART = re.compile(r"\A(/(?:home|Users)/)([^/]+)(/)")
_SHARED_USERS = frozenset({"public", "default", "all users", "default user", "shared"})

# written by the guest's own software in every analysis; a program in the second group is worth a look though
_GENERIC_PROGRAM = re.compile(
    r"(__PSScriptPolicyTest_[^\\/]*\.psm?1|"
    r"\\Start Menu\\Programs\\Windows PowerShell\\Windows PowerShell\.lnk)\Z",
    re.IGNORECASE,
)
_GENERIC_DATA = re.compile(
    r"(PowerShell_transcript\.|\\ModuleAnalysisCache\Z|\\StartupProfileData-|\\UsageLogs\\|\\CryptnetUrlCache\\|"
    r"\\Temporary Internet Files\\|\\INetCache\\|\\INetCookies\\|\\Cookies\\|\\WebCache\\|"
    r"\\CustomDestinations\\|\\AutomaticDestinations\\|\\Microsoft\\EdgeUpdate\\|\\Microsoft\\Windows\\Recent\\|"
    r"\\Windows\\Explorer\\(?:thumbcache|iconcache)|\\Prefetch\\)",
    re.IGNORECASE,
)


def plain_path(path: str) -> str:
    r"""Without the ``\\?\`` and ``\??\`` prefixes that only say "a long path"."""
    return _LONG_PATH.sub("", path)


def _folded(path: str) -> str:
    """Lower case, without prefixes and ``..``: what the system would open, whatever the spelling."""
    bare = plain_path(path)
    return (posixpath if bare.startswith("/") else ntpath).normpath(bare).lower()


def base_name(path: str) -> str:
    """The last component, for both kinds of separators."""
    return re.split(r"[\\/]", path)[-1]


def is_program(file_type: str | None, name: str | None) -> bool:
    """Would a machine run it? By its type where that says so, else by its name where the type allows it."""
    if file_type and _PROGRAM_TYPE.search(file_type):
        return True
    if file_type and _DATA_TYPE.match(file_type):
        return False
    return bool(name and _PROGRAM_NAME.search(name))


def is_device(path: str) -> bool:
    return bool(_DEVICE.match(plain_path(path)))


def is_system_path(path: str) -> bool:
    """In a folder of the operating system or of installed software, and not open to everybody."""
    folded = _folded(path)
    return bool(_SYSTEM.match(folded)) and not _OPEN_IN_SYSTEM.match(folded)


def is_user_writable(path: str) -> bool:
    return bool(_USER_WRITABLE.match(_folded(path)))


def is_victim_folder(path: str) -> bool:
    """A folder where people keep their own files."""
    return bool(_VICTIM.match(_folded(path)))


def is_generic_file(path: str, program: bool) -> bool:
    """Written by the system or a browser whatever runs. Of programs only PowerShell's own are that."""
    return bool(_GENERIC_PROGRAM.search(path)) or (not program and bool(_GENERIC_DATA.search(path)))


def user_neutral(path: str) -> str:
    r"""``C:\Users\maxine\x`` as ``C:\Users\*\x``: the sandbox's user name is not the victim's."""
    for pattern in (_USER_PART, _POSIX_USER_PART):
        match = pattern.match(path)
        if match and match.group(2).lower() not in _SHARED_USERS:
            return f"{match.group(1)}*{match.group(3)}{path[match.end() :]}"
    return path
