"""The compiled plans of the scanner's benchmark."""

from __future__ import annotations

from ioc_scan.openioc.plan import compile_plan

#: Size and SHA-256 of each.
Objects = list[tuple[int, str]]


def _item(number: int, term: str, kind: str, value: str) -> str:
    return (
        f'<IndicatorItem id="00000000-0000-4000-8000-{number:012d}" condition="is">'
        f'<Context document="FileItem" search="FileItem/{term}" type="mir"/>'
        f'<Content type="{kind}">{value}</Content></IndicatorItem>'
    )


def _plan(branches: list[str]) -> bytes:
    body = "".join(branches)
    content = (
        '<?xml version="1.0"?><ioc xmlns="http://schemas.mandiant.com/2010/ioc" '
        'id="11111111-1111-4111-8111-111111111111" last-modified="2026-01-01T00:00:00">'
        "<short_description>bench</short_description><authored_date>2026-01-01T00:00:00</authored_date><links/>"
        f'<definition><Indicator operator="OR" id="00000000-0000-4000-a000-000000000000">{body}</Indicator>'
        "</definition></ioc>"
    )
    return compile_plan([(content.encode(), "hunt")], max_bytes=2**30)


def objects_plan(objects: Objects, with_size: bool) -> bytes:
    branches = []
    for number, (size, digest) in enumerate(objects):
        branch = _item(2 * number, "Sha256sum", "sha256", digest)
        if with_size:
            branch = _item(2 * number + 1, "SizeInBytes", "int", str(size)) + branch
            branch = (
                f'<Indicator operator="AND" id="00000000-0000-4000-9000-{number:012d}">{branch}</Indicator>'
            )
        branches.append(branch)
    return _plan(branches)


def names_plan(names: list[str]) -> bytes:
    return _plan([_item(number, "FileName", "string", name) for number, name in enumerate(names)])
