"""Addresses out of the configurations that CAPE extracts from malware: its confirmed C2."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

from ioc_scan.detection.collect import Collector
from ioc_scan.detection.values import clean_address, clean_domain, clean_url

# extractors name these fields freely: C2s, CNCs, c2_address, C2Server, netloc, Host, servers, url, ...
_ADDRESS_KEY = re.compile(
    r"\A(?:.*c2.*|.*cncs?|.*c&c.*|netloc|(?:.*[ _])?(?:hosts?|servers?|domains?|urls?|address(?:es)?|ips?|"
    r"controllers?|gates?|panels?))\Z",
    re.IGNORECASE,
)
_HOST_PORT = re.compile(r"\A\[?([^\s/,;\[\]]+?)\]?(?::(\d{1,5}))?(?:/\S*)?\Z")
MAX_ADDRESSES = 500
MAX_CONFIG_DEPTH = 8


def collect(configs: Any, collector: Collector, losses: Counter[str]) -> None:
    """Add every address, domain and URL that stands under a key which means "where it calls"."""
    found = 0
    stack: list[tuple[Any, bool, int]] = [(configs, False, 0)]
    while stack and found < MAX_ADDRESSES:
        value, is_address, depth = stack.pop()
        if depth > MAX_CONFIG_DEPTH:
            losses["too_deep"] += 1
        elif isinstance(value, dict):
            for key, inner in reversed(value.items()):
                below = is_address or bool(_ADDRESS_KEY.match(key[:64]))
                stack.append((inner, below, depth + 1))
        elif isinstance(value, list):
            stack.extend((inner, is_address, depth + 1) for inner in reversed(value))
        elif is_address and isinstance(value, str):
            # Cobalt Strike writes "host,/path,host,/path"
            for part in value[:8192].split(","):
                found += _add(part.strip(), collector, losses)


def _add(text: str, collector: Collector, losses: Counter[str]) -> int:
    url = clean_url(text, losses)
    if url:
        collector.add("url", "config", value=url, evidence="CAPE/configs")
        try:
            text = urlsplit(url).netloc.rpartition("@")[2]
        except ValueError:
            return 1
    match = _HOST_PORT.match(text)
    if not match:
        return 0
    port = int(match.group(2)) if match.group(2) and int(match.group(2)) <= 65535 else None
    address = clean_address(match.group(1)) or clean_address(text)
    if address:
        collector.add(address[0], "config", value=address[1], port=port, evidence="CAPE/configs")
        return 1
    domain = clean_domain(match.group(1))
    if domain:
        collector.add("domain-name", "config", value=domain, port=port, evidence="CAPE/configs")
        return 1
    return 0
