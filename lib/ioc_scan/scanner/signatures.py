"""Whether a program for Windows bears a signature that this device trusts, asked of osslsigncode where it is.

Only a valid chain protects a file from being quarantined: a signature anybody can make for himself must
not. What cannot be checked is said so in the answer, and does not stop a response that a person or policy
decided on.
"""

from __future__ import annotations

import os
import re
import subprocess

from .errors import ScannerError
from .names import printable

_COMMANDS = ("/usr/bin/osslsigncode", "/usr/local/bin/osslsigncode")
#: The certificates this device trusts, as Debian, Red Hat and SUSE keep them.
CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/var/lib/ca-certificates/ca-bundle.pem",
)
_SECONDS = 60
_SUBJECT = re.compile(r"Subject\s*:.*?/CN=([^/\n]+)")


def check_signature(descriptor: int, may_delete_signers: list[str]) -> str:
    """What is to be said of the signature of an open file; "" for anything but a program for Windows.

    Raises ScannerError ``signed`` for a valid signature of a signer who is not in the list.
    """
    if os.pread(descriptor, 2, 0) != b"MZ":
        return ""
    command = next((path for path in _COMMANDS if os.path.exists(path)), None)
    trusted = next((path for path in CA_FILES if os.path.exists(path)), None)
    if command is None or trusted is None:
        return "signature not checked: no osslsigncode or no trusted certificates here"
    try:
        answer = subprocess.run(
            [
                command,
                "verify",
                "-CAfile",
                trusted,
                "-TSA-CAfile",
                trusted,
                "-in",
                f"/proc/self/fd/{descriptor}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(descriptor,),
            env={"LC_ALL": "C"},
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return "signature not checked: osslsigncode does not answer"
    text = answer.stdout.decode("utf-8", "replace")
    if "Signature verification: ok" not in text or answer.returncode != 0:
        return "no valid signature"
    signer = _SUBJECT.search(text)
    name = printable(signer.group(1).strip())[:200] if signer else "?"
    if name not in may_delete_signers:
        raise ScannerError(
            "signed",
            f"the file bears a valid signature of {name}",
            "add the signer to may_delete_signers if meant",
        )
    return f"signed by {name}, whose files may be deleted"
