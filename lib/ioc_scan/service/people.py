"""Who asks: a person, or a rule. Taken from the execution's context, never from text."""

from __future__ import annotations

from dataclasses import dataclass

from ioc_scan.errors import RefusedError
from ioc_scan.service.context import Context
from ioc_scan.text import printable


@dataclass(frozen=True)
class Actor:
    """``name`` is the StackStorm account that counts; ``person`` is False for rules, services and strangers."""

    name: str
    person: bool
    chat_user: str | None = None

    @classmethod
    def of(cls, context: Context, account: str | None, chat_user: str | None) -> Actor:
        """From the two immutable parameters of an action. An absent value arrives as the text "None".

        Through chat the account is the bot's: only a chat user that ``chat_identities`` maps to a StackStorm
        account is a person, and acts as that account.
        """
        account, chat_user = _given(account), _given(chat_user)
        machines = {e["account"] for e in context.config["rights"]["accounts"] if e["role"] == "machine"}
        system_users = {*context.config["system_users"], *machines}
        if chat_user is not None:
            mapped = context.config["chat_identities"].get(chat_user)
            return cls(
                mapped or account or "unknown", mapped is not None and mapped not in system_users, chat_user
            )
        return cls(account or "unknown", account is not None and account not in system_users)

    def must_be_person(self, what: str, command: str) -> None:
        """Raises RefusedError ``person_needed`` with the command a person can run."""
        if self.person:
            return
        who = f"chat user {printable(self.chat_user, 64)}" if self.chat_user else printable(self.name, 64)
        raise RefusedError(
            "person_needed",
            f"{who} may not {what}: that takes an authenticated person",
            f"Run it as yourself: {command}"
            + (" - or have an administrator add you to chat_identities." if self.chat_user else ""),
        )


def _given(value: str | None) -> str | None:
    return None if value in (None, "", "None") else value
