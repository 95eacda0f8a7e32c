"""Every reason the guard can give: stable code, the tier it leads to, and the words for people."""

from __future__ import annotations

from typing import NamedTuple

ACTIONABLE = "actionable"
HUNT = "hunt"
SUPPRESSED = "suppressed"
TIERS = (ACTIONABLE, HUNT, SUPPRESSED)

REASONS: dict[str, tuple[str, str]] = {
    # actionable
    "target": (ACTIONABLE, "the very object the sandbox found malicious"),
    "same_as_target": (ACTIONABLE, "a dropped program identical to the target"),
    "source_marked": (ACTIONABLE, "the source itself marks this object malicious"),
    # hunt: a target or marked object that must not be acted on
    "known_good_conflict": (HUNT, "malicious by the sandbox, yet on the known-good list: report only"),
    "known_good_unchecked": (HUNT, "the look-up of known-good files failed: report only until it answers"),
    "signed_object": (HUNT, "carries a signature the sandbox found valid: report only"),
    "owner_object": (HUNT, "signed in the name of the organisation's own publishers: report only"),
    "no_sha256": (HUNT, "known by MD5 or SHA-1 only, which twins can share: report only"),
    "other_target": (HUNT, "called the target, yet not the object the detection is about: report only"),
    "family_without_score": (HUNT, "a family is named but the score does not confirm it: report only"),
    "strict_mode": (HUNT, "strict mode asks for score and family name together: report only"),
    "source_not_trusted": (HUNT, "this source may only lead to reports"),
    "marked_in_system_path": (HUNT, "marked malicious in a folder of the system: report only"),
    # hunt: traces
    "target_url": (HUNT, "the address that was analysed"),
    "dropped_program": (HUNT, "a program the malware wrote, outside system folders, without signature"),
    "written_program": (HUNT, "a program written to a folder open to users; its hash is unknown"),
    "config_address": (HUNT, "from the malware's own configuration"),
    "contacted_domain": (HUNT, "a name the malware asked for, on no list of common names"),
    "contacted_url": (HUNT, "an address the malware fetched"),
    "denied_domain": (HUNT, "on the operator's list of denied names"),
    "denied_path": (HUNT, "below a path on the operator's list of denied paths"),
    "named_mutex": (HUNT, "a mutex that common software does not make"),
    "autorun": (HUNT, "makes a program start by itself"),
    "created_service": (HUNT, "a service the malware made"),
    "marked_trace": (HUNT, "the source itself marks this trace malicious"),
    # suppressed
    "below_threshold": (SUPPRESSED, "the verdict is below the threshold, so nothing is looked for"),
    "hunt_off": (SUPPRESSED, "hunting is switched off"),
    "over_limit": (SUPPRESSED, "more of this tier than the limit allows"),
    "memory_only": (SUPPRESSED, "seen in memory only; there is no such file on a disk"),
    "empty_file": (SUPPRESSED, "the empty file is on every device"),
    "test_file": (SUPPRESSED, "a well-known test file"),
    "known_good": (SUPPRESSED, "on the known-good list"),
    "system_path": (SUPPRESSED, "lies in a folder of the system or of installed software"),
    "signed_file": (SUPPRESSED, "carries a certificate; most likely a vendor's own file"),
    "copy_of_system_file": (SUPPRESSED, "a command of the malware copied a system file here"),
    "victim_file": (SUPPRESSED, "a document of the user, changed or encrypted by the malware"),
    "generic_file": (SUPPRESSED, "written by the system or a browser in any analysis"),
    "not_a_program": (SUPPRESSED, "data, not a program"),
    "not_open_to_users": (SUPPRESSED, "written outside folders that are open to users"),
    "hash_known": (SUPPRESSED, "the same file is listed with its hash"),
    "device_or_pipe": (SUPPRESSED, "a device or pipe, not a file"),
    "allowed_path": (SUPPRESSED, "under a path the operator allows"),
    "source_says_benign": (SUPPRESSED, "the source itself calls it benign"),
    "not_routable": (SUPPRESSED, "a private, multicast, loopback or reserved address"),
    "dns_server": (SUPPRESSED, "a name server"),
    "sandbox_network": (SUPPRESSED, "belongs to the sandbox's own network"),
    "unconfirmed_address": (SUPPRESSED, "traffic only; nothing shows that the malware chose this address"),
    "config_duplicate": (SUPPRESSED, "already hunted from the malware's configuration"),
    "common_domain": (SUPPRESSED, "a name that common software asks for"),
    "warning_list": (SUPPRESSED, "on a warning list of names that plain systems ask for"),
    "wide_host": (SUPPRESSED, "a content network shared by everybody"),
    "address_service": (SUPPRESSED, "a service that tells callers their own address"),
    "allowed_domain": (SUPPRESSED, "on the operator's list of allowed names"),
    "local_name": (SUPPRESSED, "a reverse look-up or a name of a local network"),
    "generic_mutex": (SUPPRESSED, "a mutex that common software makes"),
    "named_after_sample": (
        SUPPRESSED,
        "named after the file as the sandbox called it; elsewhere it has another name",
    ),
    "command_line": (SUPPRESSED, "command lines vary from device to device"),
    "unknown_role": (SUPPRESSED, "nothing is known to be done with this"),
}


class Judgement(NamedTuple):
    tier: str
    reason: str


def say(code: str) -> Judgement:
    """The tier and the reason text ``code: words`` for a code."""
    tier, words = REASONS[code]
    return Judgement(tier, f"{code}: {words}")
