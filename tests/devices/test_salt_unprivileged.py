"""Salt without root: master, salt-api and minions of a user without rights, who scans what is his."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from standalone.salt_lab import SaltLab
from standalone.salt_venv import cache_folder

from .contract import ManagerContract
from .harness import DEVICES, Fleet
from .salt_fleet import SaltFleet, running_lab

USER = "nobody"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        os.geteuid() == 0 and not (shutil.which("unshare") and shutil.which("setpriv")),
        reason="giving up root takes unshare and setpriv",
    ),
]
#: What of the contract could depend on who runs Salt; all of it runs in test_salt.py.
KEPT = (
    "test_health_is_good_where_all_is_well",
    "test_a_scan_finds_what_is_there_and_says_where",
    "test_a_device_that_was_off_gets_it_later",
    "test_pause_resume_cancel",
    "test_quarantine_and_back",
    "test_withdrawal_takes_the_job_from_every_device",
)


@contextmanager
def given_up() -> Iterator[Callable[[str], Sequence[str]]]:
    """Words before a command that make it run as USER.

    Where its programs lie in a folder that is closed to others (/root), a mount namespace of its own shows
    that folder with nothing in it but them.
    """
    down = [f"--reuid={USER}", f"--regid={_group()}", "--clear-groups", "--pdeathsig=TERM"]
    needed = [cache_folder(), Path(sys.base_prefix)]
    closed = {top for place in needed if (top := _closed_above(place)) is not None}
    if not closed:
        yield lambda _: ("setpriv", *down)
        return
    (top,) = closed
    stand_in = Path(tempfile.mkdtemp(prefix="open"))
    stand_in.chmod(0o755)
    steps = []
    for place in needed:
        if place.is_relative_to(top):
            shown = stand_in / place.relative_to(top)
            shown.mkdir(parents=True)
            steps.append(f"mount --bind {place} {shown}")
    steps += [f"mount --rbind {stand_in} {top}", 'exec setpriv "$@"']
    try:
        yield lambda _: ("unshare", "--mount", "sh", "-ec", "\n".join(steps), "sh", *down)
    finally:
        shutil.rmtree(stand_in)  # the mounts were the namespaces', and went with them


def _group() -> int:
    return pwd.getpwnam(USER).pw_gid


def _closed_above(place: Path) -> Path | None:
    """The uppermost folder on the way to it that others may not enter."""
    return next((p for p in reversed([place, *place.parents]) if not p.stat().st_mode & 0o001), None)


@pytest.fixture(scope="module")
def lab() -> Iterator[SaltLab]:
    if os.geteuid() != 0:  # then the whole of test_salt.py is that, too
        with running_lab(DEVICES) as lab:
            yield lab
        return
    with given_up() as words, running_lab(DEVICES, user=USER, wrap=words) as lab:
        yield lab


class TestContract(ManagerContract):
    @pytest.fixture
    def fleet(self, lab: SaltLab, tmp_path: Path) -> Iterator[Fleet]:
        fleet = SaltFleet(lab, tmp_path)
        yield fleet
        fleet.close()


for _base in TestContract.__mro__[1:]:
    for _name in vars(_base):
        if _name.startswith("test_") and _name not in KEPT:
            setattr(TestContract, _name, None)


def test_it_really_is_not_root(lab: SaltLab) -> None:
    for name, process in lab.running().items():
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
        (uids,) = [line.split()[1:] for line in status.splitlines() if line.startswith("Uid:")]
        assert "0" not in uids, name
