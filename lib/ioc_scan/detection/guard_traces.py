"""The guard's rules for everything that is no file: addresses, names, mutexes, keys, services, commands."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from ioc_scan.detection.guard_files import Case
from ioc_scan.detection.guard_reasons import Judgement, say
from ioc_scan.detection.values import clean_address, clean_domain
from ioc_scan.detection.wellknown import (
    ADDRESS_SERVICES,
    COMMON_DOMAINS,
    GENERIC_MUTEX,
    PUBLIC_RESOLVERS,
    WIDE_HOSTS,
    in_domains,
)

Indicator = dict[str, Any]

# top-level names that are never delegated to anybody, or only for reverse look-ups
_LOCAL_SUFFIXES = frozenset(
    {"arpa", "local", "localdomain", "lan", "home", "internal", "corp", "intranet"}
    | {"test", "example", "invalid", "localhost"}
)


def judge(indicator: Indicator, case: Case) -> Judgement:
    kind = indicator["type"]
    if indicator.get("verdict") == "benign":
        return say("source_says_benign")
    if kind in ("ipv4-addr", "ipv6-addr"):
        return _judge_address(indicator, case)
    if kind == "domain-name":
        return _judge_domain(indicator, case)
    if kind == "url":
        return _judge_url(indicator, case)
    if kind == "mutex":
        return _judge_mutex(indicator["value"], case)
    if kind == "windows-registry-key" and indicator["role"] == "persistence":
        return say("autorun")
    if kind == "windows-service" and indicator["role"] in ("created", "persistence"):
        return say("created_service")
    if kind == "process":
        return say("command_line")
    return say("marked_trace" if indicator.get("verdict") == "malicious" else "unknown_role")


def _judge_mutex(value: str, case: Case) -> Judgement:
    if any(name in value.lower() for name in case.sample_names):
        return say("named_after_sample")
    return say("generic_mutex" if GENERIC_MUTEX.match(value) else "named_mutex")


def _judge_address(indicator: Indicator, case: Case) -> Judgement:
    value = indicator["value"]
    refused = _refuse_address(value, case)
    if refused:
        return refused
    if indicator["role"] == "resolver":
        return say("dns_server")
    if indicator["role"] == "config":
        return say("config_address")
    if indicator.get("verdict") == "malicious":
        return say("marked_trace")
    return say("config_duplicate" if value in case.config_values else "unconfirmed_address")


def _refuse_address(value: str, case: Case) -> Judgement | None:
    address = ipaddress.ip_address(value)
    if any(
        address.version == network.version and address in network for network in case.policy.sandbox_networks
    ):
        return say("sandbox_network")
    if not address.is_global or address.is_multicast:
        return say("not_routable")
    if value in PUBLIC_RESOLVERS:
        return say("dns_server")
    return None


def _judge_domain(indicator: Indicator, case: Case) -> Judgement:
    value = indicator["value"].lower().rstrip(".")
    listed = _listed(value, case, indicator["role"] == "config")
    if listed:
        return listed
    if indicator["role"] == "config":
        return say("config_address")
    if indicator.get("verdict") == "malicious":
        return say("marked_trace")
    return say("config_duplicate" if value in case.config_values else "contacted_domain")


def _listed(domain: str, case: Case, configured: bool) -> Judgement | None:
    policy = case.policy
    if in_domains(domain, policy.denied_domains):
        return say("denied_domain")
    if in_domains(domain, policy.allowed_domains):
        return say("allowed_domain")
    if domain.rpartition(".")[2] in _LOCAL_SUFFIXES or "." not in domain:
        return say("local_name")
    if in_domains(domain, COMMON_DOMAINS):
        return say("common_domain")
    if policy.lists and (domain in policy.lists.exact or in_domains(domain, policy.lists.domains)):
        return say("warning_list")
    if not configured and in_domains(domain, WIDE_HOSTS):
        return say("wide_host")
    if in_domains(domain, ADDRESS_SERVICES):
        return say("address_service")
    return None


def _judge_url(indicator: Indicator, case: Case) -> Judgement:
    try:
        host = urlsplit(indicator["value"]).hostname or ""
    except ValueError:
        return say("unknown_role")
    address = clean_address(host)
    configured = indicator["role"] in ("config", "target")
    listed = None if address else _listed(clean_domain(host) or "", case, configured)
    refused = _refuse_address(address[1], case) if address else listed
    if refused:
        return refused
    if indicator["role"] == "target":
        return say("target_url")
    if indicator["role"] == "config":
        return say("config_address")
    return say("marked_trace" if indicator.get("verdict") == "malicious" else "contacted_url")
