"""What check_setup looks at besides store, sources, managers and policies."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ioc_scan.clock import to_iso
from ioc_scan.config import pack_folder
from ioc_scan.errors import IocScanError
from ioc_scan.service.context import Context
from ioc_scan.service.rights import unlisted
from ioc_scan.service.sealing import try_syslog
from ioc_scan.text import printable

Check = dict[str, Any]
#: A certificate that ends sooner is worth a word.
SOON = timedelta(days=30)
#: Clocks of the hosts of one installation may differ by this much.
CLOCK_SLACK = timedelta(minutes=5)
_CERTIFICATES = ("ca_file", "client_cert_file")
_SECRETS = ("token", "password", "secret", "key")
_PASSWORD = re.compile(r"://[^/@]*:[^/@]+@")
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*([^;#]*)")


def good(name: str, message: str) -> Check:
    return {"name": name, "ok": True, "code": "ok", "message": message, "hint": ""}


def bad(name: str, code: str, message: str, hint: str) -> Check:
    """A code that begins with ``warning`` does not make the whole fail."""
    return {"name": name, "ok": False, "code": code, "message": message, "hint": hint}


def _versions(context: Context) -> Iterator[Check]:
    """What pip would complain about, if somebody asked it: packages of this interpreter that are absent or old."""
    missing = []
    for line in (pack_folder() / "requirements.txt").read_text(encoding="utf-8").splitlines():
        found = _REQUIREMENT.match(line)
        if found is None or line.startswith("#"):
            continue
        try:
            present = importlib.metadata.version(found[1])
        except importlib.metadata.PackageNotFoundError:
            missing.append(found[1])
            continue
        wanted = re.search(r">=\s*([0-9.]+)", found[2])
        if wanted and _numbers(present) < _numbers(wanted[1]):
            missing.append(f"{found[1]} {present} is older than {wanted[1]}")
    if missing:
        hint = "st2 pack install ioc_scan again makes the pack's virtualenv anew."
        yield bad("packages", "packages_missing", ", ".join(missing), hint)
    else:
        yield good("packages", "all that requirements.txt names are there")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _clock(context: Context) -> Iterator[Check]:
    """An earlier time than the last event's means that this host's clock, or another's, is wrong."""
    now = context.clock()
    try:
        with context.store.reading() as tx:
            newest = tx.events.list(limit=1)
    except IocScanError:
        return  # the store's own check says it
    if newest and newest[0]["at"] > now + CLOCK_SLACK:
        message = f"it is {to_iso(now)} here, and the last event says {to_iso(newest[0]['at'])}"
        yield bad(
            "clock", "clock_behind", message, "Set the clocks of all action runners, for example with chrony."
        )
    else:
        yield good("clock", to_iso(now))


def _rights(context: Context) -> Iterator[Check]:
    settings, systems = context.config["rights"], set(context.config["system_users"])
    mapped = context.config["chat_identities"]
    known = {entry["account"] for entry in settings["accounts"]}
    for user, account in sorted(mapped.items()):
        if account in systems:
            message = (
                f"chat user {printable(user, 64)} is mapped to {printable(account, 64)}, which is no person"
            )
            yield bad(
                "chat identities", "warning_chat_identity", message, "Map it to the account of a person."
            )
        elif settings["accounts"] and account not in known:
            message = f"chat user {printable(user, 64)} acts as {printable(account, 64)}, which has no role of its own"
            yield bad(
                "chat identities", "warning_chat_identity", message, "List the account under rights.accounts."
            )
    groups = {name for entry in settings["accounts"] for name in entry["groups"]}
    for name in sorted(groups - _group_names(context)):
        message = f"no device manager has the group {printable(name, 80)} that an account answers for"
        yield bad(
            "rights", "warning_group_unknown", message, "st2 run ioc_scan.list_devices shows the groups."
        )
    role = unlisted(context.config)
    if role == "administrator":
        message = "every account that StackStorm lets run an action may do everything with it"
        yield bad(
            "rights", "warning_no_roles", message, "List accounts under `rights`; see docs/permissions.md."
        )
    else:
        yield good("rights", f"{len(known)} accounts listed, others are {role}")


def _group_names(context: Context) -> set[str]:
    names: set[str] = set()
    try:
        for name, manager in context.managers.items():
            for group in manager.groups():
                names |= {group.name, f"{name}/{group.name}"}
    except IocScanError:
        pass  # the managers' own check says it
    return names


def _audit(context: Context) -> Iterator[Check]:
    settings = context.config["audit"]
    if not settings["syslog"]:
        yield good("audit", "the head of the trail leaves by trigger only")
    elif try_syslog(settings["syslog_address"]):
        yield good(
            "audit", f"the head of the trail leaves by trigger and syslog ({settings['syslog_address']})"
        )
    else:
        message = f"syslog cannot be reached at {printable(settings['syslog_address'], 100)}"
        hint = "Name its socket or host:port as audit.syslog_address, or set audit.syslog to false."
        yield bad("audit", "warning_syslog_unreachable", message, hint)


def _certificates(context: Context) -> Iterator[Check]:
    for entry in (*context.config["sources"], *context.config["device_managers"]):
        for key in _CERTIFICATES:
            if entry.get(key):
                yield _certificate(f"{entry['name']}.{key}", str(entry[key]), context.clock())


def _certificate(name: str, path: str, now: datetime) -> Check:
    from cryptography import x509

    hint = "Put a valid certificate (PEM) there, readable by the action user."
    try:
        found = x509.load_pem_x509_certificates(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        return bad(name, "certificate_unreadable", f"{printable(path)}: {type(error).__name__}", hint)
    ends = min(_end(certificate) for certificate in found)
    if ends <= now:
        return bad(name, "certificate_expired", f"{printable(path)} ended at {to_iso(ends)}", hint)
    if ends <= now + SOON:
        return bad(name, "warning_certificate_ends", f"{printable(path)} ends at {to_iso(ends)}", hint)
    return good(name, f"valid until {to_iso(ends)}")


def _end(certificate: Any) -> datetime:
    """Aware, with older releases of cryptography as well."""
    if hasattr(certificate, "not_valid_after_utc"):
        return certificate.not_valid_after_utc
    return certificate.not_valid_after.replace(tzinfo=timezone.utc)


def _secrets(context: Context) -> Iterator[Check]:
    """StackStorm hands the configuration to actions as an argument, which process lists show to everybody."""
    entries = [*context.config["sources"], *context.config["device_managers"]]
    found = [f"{entry['name']}.{key}" for entry in entries for key in _SECRETS if entry.get(key)]
    found += ["store.url"] if _PASSWORD.search(str(context.config["store"].get("url") or "")) else []
    if found:
        message = f"stands in the configuration itself, so process lists show it: {', '.join(found)}"
        yield bad("secrets", "warning_secret_in_config", message, "Use the form ending in _file instead.")
    else:
        yield good("secrets", "none in the configuration itself")


MORE_PARTS = (_secrets, _certificates, _rights, _audit, _clock, _versions)
