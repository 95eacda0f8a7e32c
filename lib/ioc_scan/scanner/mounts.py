"""What is mounted where on a Linux device, and which kinds of file systems are not its own files."""

from __future__ import annotations

import os

from .records import Record

NETWORK_FILE_SYSTEMS = frozenset(
    (
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs",
        "fuse.rclone", "fuse.s3fs", "davfs", "fuse.davfs", "lustre", "gpfs", "ocfs2", "gfs2", "orangefs", "beegfs",
        "coda", "ncpfs", "afpfs", "webdav", "virtiofs",
    )
)  # fmt: skip
#: Not files: views of the kernel.
KERNEL_FILE_SYSTEMS = frozenset(
    (
        "proc", "sysfs", "cgroup", "cgroup2", "devpts", "securityfs", "debugfs", "tracefs", "configfs", "pstore",
        "bpf", "mqueue", "hugetlbfs", "autofs", "binfmt_misc", "fusectl", "selinuxfs", "efivarfs", "rpc_pipefs",
        "nsfs",
    )
)  # fmt: skip
#: Folders that a service may have of its own.
TMP_FOLDERS = ("/tmp", "/var/tmp")
LAYER_FILE_SYSTEMS = frozenset(("overlay", "aufs"))


class Mount(Record):
    """One line of the mount table."""

    point: str
    kind: str
    source: str
    read_only: bool


def mounts() -> list[Mount]:
    """The mount table; empty where the system has none to read."""
    try:
        with open("/proc/self/mountinfo", "rb") as stream:
            lines = stream.read().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        before, _, after = line.partition(b" - ")
        fields, rest = before.split(), after.split()
        if len(fields) > 5 and len(rest) > 1:
            kind = rest[0].decode("ascii", "replace")
            read_only = b"ro" in fields[5].split(b",")
            found.append(Mount(_plain(fields[4]), kind, _plain(rest[1]), read_only))
    return found


def _plain(field: bytes) -> str:
    """Undo the kernel's escapes: a space is written as ``\\040``."""
    first, *others = field.split(b"\\")
    return os.fsdecode(first + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in others))


def private_tmp() -> bool:
    """True where /tmp is not the machine's own: a unit with PrivateTmp sees its own folder there."""
    try:
        with open("/proc/self/mountinfo", "rb") as stream:
            table = [line.split() for line in stream]
        folders = [os.fsencode(folder) for folder in TMP_FOLDERS]
        tmp = [fields for fields in table if len(fields) > 4 and fields[4] in folders]
        if any(b"systemd-private-" in fields[3] for fields in tmp):
            return True
        # PrivateTmp=disconnected mounts two file systems of its own: seen by a namespace that is not init's.
        another = os.stat("/proc/self/ns/mnt").st_ino != os.stat("/proc/1/ns/mnt").st_ino
    except OSError:
        return False
    return another and len({fields[4] for fields in tmp}) == len(TMP_FOLDERS)
