from ioc_scan.service import answer, audit
from st2common.runners.base_action import Action


class VerifyAuditAction(Action):
    def run(self, heads):
        return answer(self.config, audit.verify_audit, heads=heads)
