"""Which devices a run goes to first, and at what time each may begin. Pure: no store, no clock.

Nothing here is random: what is drawn follows from the names of task, run and device, so that the same run
drawn again (after a crash, on another host) comes out the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, time, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ioc_scan.devices.base import Online
from ioc_scan.service.targeting import Aim

#: Starts are spread over so many moments at most: each is a job of its own.
MAX_SLOTS = 24
SLOT = timedelta(minutes=5)
Devices = dict[str, list[str]]


def choose_canaries(aims: Sequence[Aim], number: int) -> Devices:
    """Up to ``number`` devices by manager, taken in turn from each group; those known to be away come last.

    The same fleet gives the same devices each time, so that people get to know them.
    """
    queues = [
        (aim.manager, sorted(aim.devices, key=lambda d: (d.online is Online.NO, _draw(d.id)))) for aim in aims
    ]
    chosen: list[tuple[str, str]] = []
    place = 0
    while len(chosen) < number and any(place < len(queue) for _, queue in queues):
        for manager, queue in queues:
            if place < len(queue) and (manager, queue[place].id) not in chosen and len(chosen) < number:
                chosen.append((manager, queue[place].id))
        place += 1
    found: Devices = {}
    for manager, device in chosen:
        found.setdefault(manager, []).append(device)
    return {manager: sorted(devices) for manager, devices in found.items()}


def without(devices: Mapping[str, Sequence[str]], taken: Mapping[str, Sequence[str]]) -> Devices:
    """The devices that are not taken, by manager; managers without any are left out."""
    left: Devices = {}
    for manager, ids in devices.items():
        gone = set(taken.get(manager, ()))
        if kept := [device for device in ids if device not in gone]:
            left[manager] = kept
    return left


def start_times(
    settings: Mapping[str, Any], task_id: str, run: int, devices: Iterable[str], now: datetime
) -> list[tuple[datetime, list[str]]]:
    """When which devices may begin: at once, spread over the period, or over the (next) window."""
    begin, span = _span(settings, now)
    if not span:
        return [(begin, list(devices))]
    slots = max(min(span // SLOT, MAX_SLOTS), 1)
    found: dict[int, list[str]] = {}
    for device in devices:
        slot = int(_draw(task_id, str(run), device), 16) % slots
        found.setdefault(slot, []).append(device)
    return [(begin + span * slot / slots, found[slot]) for slot in sorted(found)]


def first_start(settings: Mapping[str, Any], now: datetime) -> datetime:
    """When the first devices may begin."""
    return _span(settings, now)[0]


def _span(settings: Mapping[str, Any], now: datetime) -> tuple[datetime, timedelta]:
    start = settings.get("start")
    if start == "period":
        return now, timedelta(hours=int(settings["start_period_hours"]))
    if start == "window":
        begin, end = next_window(settings["start_window"], zone(settings.get("start_time_zone")), now)
        return begin, end - begin
    return now, timedelta(0)


def check(settings: Mapping[str, Any]) -> None:
    """Raises ValueError (or OSError, of time zones) where the start settings lack something or mean nothing."""
    start = settings.get("start", "now")
    if start == "window":
        if not settings.get("start_window"):
            raise ValueError("start window needs start_window")
        parse_window(settings["start_window"])
    if start == "period" and not settings.get("start_period_hours"):
        raise ValueError("start period needs start_period_hours")
    try:
        zone(settings.get("start_time_zone"))
    except ZoneInfoNotFoundError as error:
        raise ValueError(f"no time zone {settings['start_time_zone']} on this machine") from error


def zone(name: str | None) -> tzinfo | None:
    """A time zone by its IANA name; None is this machine's own. Raises an error of zoneinfo, or ValueError."""
    return ZoneInfo(name) if name else None


def parse_window(text: str) -> tuple[time, time]:
    """``22:00-06:00`` as two times of day. Raises ValueError where it is none, or empty."""
    begin, _, end = text.partition("-")
    opens, closes = (time.fromisoformat(part.strip()) for part in (begin, end))
    if opens == closes:
        raise ValueError("the window is empty")
    return opens, closes


def next_window(text: str, place: tzinfo | None, now: datetime) -> tuple[datetime, datetime]:
    """What is left of the window that is open now, else the whole next one; in UTC.

    Times of day are the clock's on the wall: on the days the clocks change a window is an hour longer or shorter.
    """
    opens, closes = parse_window(text)
    today = now.astimezone(place).date()
    for day in range(-1, 3):
        date = today + timedelta(days=day)
        begin = _moment(datetime.combine(date, opens), place)
        end = _moment(datetime.combine(date + timedelta(days=closes <= opens), closes), place)
        if begin < end and now < end:
            return max(begin, now), end
    raise ValueError(f"no window {text} within two days")  # cannot be: windows come daily


def _moment(wall: datetime, place: tzinfo | None) -> datetime:
    """A time on the wall as UTC; without a zone the machine's own rules for that very day."""
    local = wall.replace(tzinfo=place) if place is not None else wall.astimezone()
    return local.astimezone(timezone.utc)


def _draw(*names: str) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
