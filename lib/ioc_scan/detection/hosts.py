"""The addresses a guest talked to, and on which ports: what was asked on port 53 only is a name server."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ioc_scan.detection.collect import Collector
from ioc_scan.detection.values import clean_address, clean_size

MAX_ADDRESSES = 5000
_MAX_PORTS = 16
_DNS = 53


class Hosts:
    """Feed flows and contacts in any order, then ``add_to`` a collector."""

    def __init__(self, losses: Counter[str]) -> None:
        self._losses = losses
        self._ports: dict[str, set[int | None]] = {}
        self._types: dict[str, str] = {}

    def flow(self, address: Any, port: Any) -> None:
        known = clean_address(address)
        if known and (known[1] in self._ports or len(self._ports) < MAX_ADDRESSES):
            ports = self._ports.setdefault(known[1], set())
            if len(ports) < _MAX_PORTS:
                ports.add(clean_size(port))

    def contact(self, address: Any) -> None:
        known = clean_address(address)
        if known is None:
            self._losses["bad_address"] += 1
        elif len(self._types) < MAX_ADDRESSES:
            self._types.setdefault(known[1], known[0])
        else:
            self._losses["over_limit_contacted"] += 1

    def add_to(self, collector: Collector, evidence: str) -> None:
        """One indicator for each contact; its port if there was exactly one."""
        for address, type_ in self._types.items():
            ports = self._ports.get(address, set())
            role = "resolver" if ports == {_DNS} else "contacted"
            port = next(iter(ports)) if len(ports) == 1 else None
            usable = port if port is not None and port <= 65535 else None
            collector.add(type_, role, value=address, port=usable, evidence=evidence)
