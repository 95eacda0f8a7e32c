from ioc_scan.service import answer, audit
from st2common.runners.base_action import Action


class ExportAuditAction(Action):
    def run(self, task_id, detection_id, account, chat_user):
        return answer(
            self.config,
            audit.export_audit,
            task_id=task_id,
            detection_id=detection_id,
            account=account,
            chat_user=chat_user,
        )
