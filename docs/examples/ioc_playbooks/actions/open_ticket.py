import json
import urllib.request

from st2common.runners.base_action import Action


class OpenTicketAction(Action):
    def run(self, summary, text, url):
        """Replace this by the action of your ticket system's pack, for example jira.create_issue."""
        address = url or self.config.get("ticket_url") or ""
        if not address.startswith(("https://", "http://")):
            return False, {"code": "ticket_url_missing", "message": "no ticket_url in the configuration"}
        body = json.dumps({"summary": summary, "text": text}).encode("utf-8")
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(address, body, headers)  # noqa: S310  looked at above
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return True, {"ticket_id": str(json.load(answer)["id"])}
