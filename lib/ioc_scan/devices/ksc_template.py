"""Template tasks of Kaspersky Security Center: what is learned of them, and how a task is cloned from one.

Name, component and settings of the IOC Scan task are not published, so nothing of them stands here. An
administrator makes two tasks in the Web Console: alike, with the same marker IOC file, but one only reports and the
other responds. What differs between them *is* the response. A clone changes the name, the target and the IOC file.

Settings are kept in the server's JSON form: ``{"type": "params", "value": {...}}`` around everything nested.
"""

from __future__ import annotations

import base64
import binascii
import copy
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import InputError, RefusedError
from ..text import printable

Path = tuple[str | int, ...]
Raw = dict[str, Any]

SHAPE_VERSION = 1
MAX_NAME_CHARS = 100
_INFO: Path = ("TASK_INFO_PARAMS", "value")
_GROUP: Path = (*_INFO, "PRTS_TASK_GROUPID")
_NAME: Path = (*_INFO, "DisplayName")
#: The server's own: never part of a clone, and no change of a template.
_SERVERS_OWN = re.compile(
    r"TASK_UNIQUE_ID|.*STORAGE_?ID|.*(CREATION|CREATED|MODIF\w*|LAST_\w+)_?(DATE|TIME).*", re.I
)
#: A setting that sounds like this and is on makes a template one that responds, whatever else it says.
_DESTRUCTIVE = re.compile(r"delete|quarantine|remove|disinfect|kill|terminate|isolat", re.I)
_MAX_SEEN = 12


def learn(
    report: tuple[str, Raw], respond: tuple[str, Raw], marker: bytes, hosts: Mapping[str, Mapping[str, str]]
) -> Raw:
    """The shape of two templates, given as (task id, settings). ``hosts``: id -> {"id", "dn", "fqdn"}.

    Raises InputError ``ksc_marker_*``, ``ksc_templates_*``, ``ksc_target_*``, ``ksc_template_*``.
    """
    learned: Raw = {"version": SHAPE_VERSION, "kind": _kind(report[1])}
    if _kind(respond[1]) != learned["kind"]:
        raise InputError(
            "ksc_templates_differ",
            "the two templates are tasks of different kinds",
            "make both from the same kind of task: IOC Scan",
        )
    for role, (task_id, raw) in (("report", report), ("respond", respond)):
        _check_schedule(role, raw)
        learned[role] = {
            "task_id": task_id,
            "digest": digest(raw),
            "ioc": _find_marker(role, raw, marker),
            "aim": _find_aim(role, raw, hosts),
        }
    learned["response"] = _difference(learned, report[1], respond[1])
    learned["digest"] = hashlib.sha256(_canonical(learned)).hexdigest()
    return learned


def is_learned(value: object) -> bool:
    """Whether a stored shape is of this version and undamaged."""
    if not isinstance(value, dict) or value.get("version") != SHAPE_VERSION:
        return False
    content = {name: inner for name, inner in value.items() if name != "digest"}
    return value.get("digest") == hashlib.sha256(_canonical(content)).hexdigest()


def check(shape: Raw, raw: Raw) -> None:
    """Raises RefusedError ``ksc_template_changed`` unless the template is what was learned."""
    if digest(raw) != shape["digest"]:
        raise RefusedError(
            "ksc_template_changed",
            f"the template task {printable(shape['task_id'], 40)} was changed since it was learned",
            "st2 run ioc_scan.learn_ksc_template shows what it is now",
        )


def clone(
    shape: Raw,
    raw: Raw,
    name: str,
    ioc: bytes,
    *,
    group_id: int | None = None,
    hosts: Sequence[Mapping[str, str]] = (),
) -> Raw:
    """Settings of a new task like the template, for a group or for exactly these hosts. Raises as :func:`check`."""
    check(shape, raw)
    clean = _without_servers_own(raw)
    _put(clean, _NAME, name[:MAX_NAME_CHARS])
    path, encoding = tuple(shape["ioc"]["path"]), shape["ioc"]["encoding"]
    _put(clean, path, ioc.decode("utf-8") if encoding == "text" else base64.b64encode(ioc).decode("ascii"))
    if shape["aim"]["kind"] == "group":
        if group_id is None:
            raise _cannot_aim("the template is a group task and cannot name devices")
        _put(clean, _GROUP, group_id)
    else:
        if group_id is not None or not hosts:
            raise _cannot_aim("the template names devices and cannot name a group")
        _put(clean, tuple(shape["aim"]["path"]), [_entry(shape["aim"], host) for host in hosts])
    return clean


def digest(raw: Raw) -> str:
    """SHA-256 of everything an administrator can set: neither the name nor what the server notes itself."""
    clean = _without_servers_own(raw)
    info = clean.get("TASK_INFO_PARAMS", {}).get("value", {})
    if isinstance(info, dict):
        info.pop("DisplayName", None)
    return hashlib.sha256(_canonical(clean)).hexdigest()


def name_of(raw: Raw) -> str:
    return printable(_get(raw, _NAME) or "", MAX_NAME_CHARS)


# -- what is looked for


def _kind(raw: Raw) -> str:
    kind = raw.get("TASK_NAME")
    if not isinstance(kind, str) or not kind:
        raise InputError("ksc_template_odd", "the template has no TASK_NAME", "is it a task of this server?")
    return kind


def _check_schedule(role: str, raw: Raw) -> None:
    if raw.get("TASKSCH_TYPE") != 0:
        raise InputError(
            "ksc_template_scheduled",
            f"the {role} template has a schedule: clones of it would start by themselves",
            "set its schedule to Manually",
        )


def _find_marker(role: str, raw: Raw, marker: bytes) -> Raw:
    found: list[tuple[Path, str]] = []
    near: list[Path] = []
    for path, value in _leaves(raw):
        encoding = _encoding(value, marker) if isinstance(value, str) else None
        if encoding == "inside":
            near.append(path)
        elif encoding is not None:
            if encoding == "base64" and path[-1:] == ("value",):
                encoding = "binary"
            found.append((path, encoding))
    if len(found) == 1 and not near:
        return {"path": list(found[0][0]), "encoding": found[0][1]}
    seen = ", ".join(_shown(path) for path in [*(p for p, _ in found), *near][:_MAX_SEEN])
    if not found and not near:
        settings = ", ".join(_shown(path) for path, _ in list(_leaves(raw))[:_MAX_SEEN])
        raise InputError(
            "ksc_marker_missing",
            f"the {role} template holds the marker IOC file nowhere; it has {settings}",
            "upload the marker file to the template as its only IOC file, unchanged",
        )
    raise InputError(
        "ksc_marker_ambiguous",
        f"the {role} template holds the marker {len(found)} times, and {len(near)} times inside other text: {seen}",
        "the marker must be its only IOC file, once",
    )


def _encoding(text: str, marker: bytes) -> str | None:
    plain = marker.decode("utf-8", "replace")
    if text == plain:
        return "text"
    try:
        decoded = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        decoded = b""
    if decoded == marker:
        return "base64"
    core = plain.strip()
    return "inside" if core in text or (len(marker) > 20 and marker in decoded) else None


def _find_aim(role: str, raw: Raw, hosts: Mapping[str, Mapping[str, str]]) -> Raw:
    """A group task, or a list with exactly one known device in it."""
    if isinstance(_get(raw, _GROUP), int):
        return {"kind": "group"}
    lists = [
        (path, value[0])
        for path, value in _nodes(raw)
        if isinstance(value, list) and len(value) == 1 and _host_in(value[0], hosts)
    ]
    if len(lists) != 1:
        raise InputError(
            "ksc_target_unknown",
            f"the {role} template has neither a group nor one list with one known device ({len(lists)} found)",
            "aim the template at a group, or at exactly one managed device",
        )
    path, entry = lists[0]
    host = hosts[_host_in(entry, hosts) or ""]
    fields = []
    for inner, value in _leaves(entry):
        if not isinstance(value, str) or inner[-1:] == ("type",):
            continue
        attribute = next(
            (name for name, known in host.items() if known and known.lower() == value.lower()), None
        )
        if attribute is None:
            raise InputError(
                "ksc_target_unknown",
                f"the {role} template's device list says more than a device's names, at {_shown((*path, 0, *inner))}",
                "aim the template at a group instead; responses are then refused",
            )
        fields.append([list(inner), attribute])
    return {"kind": "devices", "path": list(path), "entry": entry, "fields": fields}


def _host_in(entry: Any, hosts: Mapping[str, Mapping[str, str]]) -> str | None:
    texts = {value for _, value in _leaves(entry) if isinstance(value, str)}
    return next((text for text in sorted(texts) if text in hosts), None)


def _entry(aim: Raw, host: Mapping[str, str]) -> Any:
    entry = copy.deepcopy(aim["entry"])
    for path, attribute in aim["fields"]:
        if not path:
            return host[attribute]
        _put(entry, tuple(path), host[attribute])
    return entry


def _difference(learned: Raw, report: Raw, respond: Raw) -> list[Raw]:
    """What is set otherwise in the responding template: off in the one, on in the other, or it is not learned."""
    sides = []
    for role, raw in (("report", report), ("respond", respond)):
        clean = _without_servers_own(raw)
        shape = learned[role]
        targets = [_NAME, _GROUP]
        if shape["aim"]["kind"] == "devices":
            targets.append(tuple(shape["aim"]["path"]))
        ioc = tuple(shape["ioc"]["path"])
        sides.append(
            {p: v for p, v in _leaves(clean) if p != ioc and not any(p[: len(t)] == t for t in targets)}
        )
    off, on = sides
    paths = sorted({p for p in off.keys() | on.keys() if off.get(p) != on.get(p)}, key=_shown)
    if not paths:
        raise InputError(
            "ksc_templates_same",
            "the two templates do the same: nothing tells reporting from responding",
            "switch the response on in the responding template only",
        )
    wrong = [path for path in paths if off.get(path) or not on.get(path)]
    # "off" must not hide elsewhere: what sounds destructive is off in the report-only template
    wrong += [
        path for path, value in off.items() if value not in (0, False, "") and _sounds_destructive(path)
    ]
    if wrong:
        seen = ", ".join(f"{_shown(p)}={printable(off.get(p), 40)}" for p in wrong[:_MAX_SEEN])
        raise InputError(
            "ksc_template_responds",
            f"the report-only template must have every response off, and it has {seen}",
            "is the order of the templates right? They must be alike but for the response",
        )
    return [{"setting": _shown(p), "report": off.get(p), "respond": on.get(p)} for p in paths[:50]]


def _sounds_destructive(path: Path) -> bool:
    names = [part for part in path if isinstance(part, str) and part not in ("value", "type")]
    return bool(names) and _DESTRUCTIVE.search(names[-1]) is not None


# -- walking the server's JSON


def _without_servers_own(raw: Raw) -> Raw:
    """A copy without ids, dates and storage ids, at the top and in TASK_INFO_PARAMS."""
    clean = {
        name: copy.deepcopy(value)
        for name, value in raw.items()
        if not _SERVERS_OWN.fullmatch(name) and not _is_date(value)
    }
    info = clean.get("TASK_INFO_PARAMS")
    if isinstance(info, dict) and isinstance(info.get("value"), dict):
        info["value"] = {
            name: value
            for name, value in info["value"].items()
            if not _SERVERS_OWN.fullmatch(name) and not _is_date(value)
        }
    return clean


def _is_date(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") in ("date", "datetime")


def _nodes(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value with its path, depth first, without recursion."""
    stack: list[tuple[Path, Any]] = [(path, value)]
    while stack:
        where, node = stack.pop()
        yield where, node
        if isinstance(node, dict):
            stack.extend(((*where, name), node[name]) for name in sorted(node, reverse=True))
        elif isinstance(node, list):
            stack.extend(((*where, index), inner) for index, inner in reversed(list(enumerate(node))))


def _leaves(value: Any) -> Iterator[tuple[Path, Any]]:
    """Settings only: the word that names a wrapped value's type is none."""
    for path, node in _nodes(value):
        if not isinstance(node, (dict, list)) and path[-1:] != ("type",):
            yield path, node


def _get(raw: Any, path: Path) -> Any:
    for part in path:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return None
    return raw


def _put(raw: Any, path: Path, value: Any) -> None:
    for part in path[:-1]:
        raw = raw[part]
    raw[path[-1]] = value


def _shown(path: Path) -> str:
    return printable("/".join(str(part) for part in path if part != "value") or "(top)", 120)


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def _cannot_aim(why: str) -> RefusedError:
    return RefusedError(
        "ksc_cannot_aim", why, "docs/kaspersky.md says how a template is made that names devices"
    )
