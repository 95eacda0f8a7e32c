"""Scan plans for device tests: real IOC files, written by hand, compiled by the pack."""

from __future__ import annotations

import hashlib

from ioc_scan.openioc.plan import compile_plan

_IOC = """<?xml version="1.0" encoding="utf-8"?>
<ioc xmlns="http://schemas.mandiant.com/2010/ioc" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
     id="{ioc_id}" last-modified="2026-01-01T00:00:00">
  <short_description>{name}</short_description>
  <authored_date>2026-01-01T00:00:00</authored_date>
  <links/>
  <definition>
    <Indicator operator="OR" id="00000000-0000-4000-8000-000000000001">{body}</Indicator>
  </definition>
</ioc>
"""
_ITEM = """<IndicatorItem id="{item_id}" condition="is">
  <Context document="FileItem" search="FileItem/{field}" type="mir"/>
  <Content type="{kind}">{value}</Content></IndicatorItem>"""


def _item(number: int, field: str, kind: str, value: object) -> str:
    item_id = f"00000000-0000-4000-8000-{number:012d}"
    return _ITEM.format(item_id=item_id, field=field, kind=kind, value=value)


def actionable_ioc(*contents: bytes, with_size: bool = True) -> bytes:
    """AND(size, sha256) per object, as the pack writes it; without sizes every file is hashed."""
    groups = []
    for index, content in enumerate(contents):
        size = _item(index * 10 + 2, "SizeInBytes", "int", len(content)) if with_size else ""
        digest = _item(index * 10 + 3, "Sha256sum", "sha256", hashlib.sha256(content).hexdigest())
        groups.append(
            f'<Indicator operator="AND" id="00000000-0000-4000-9000-{index:012d}">{size}{digest}</Indicator>'
        )
    ioc_id = "11111111-1111-4111-8111-111111111111"
    return _IOC.format(ioc_id=ioc_id, name="actionable", body="".join(groups)).encode()


def hunt_ioc(*names: str) -> bytes:
    """Files by name."""
    items = "".join(_item(index + 500, "FileName", "string", name) for index, name in enumerate(names))
    return _IOC.format(ioc_id="22222222-2222-4222-8222-222222222222", name="hunt", body=items).encode()


def make_plan(*contents: bytes, hunt_names: tuple[str, ...] = (), with_size: bool = True) -> bytes:
    files = [(actionable_ioc(*contents, with_size=with_size), "actionable")]
    if hunt_names:
        files.append((hunt_ioc(*hunt_names), "hunt"))
    return compile_plan(files)
