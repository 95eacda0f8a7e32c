from ioc_scan.service import answer, outputs
from st2common.runners.base_action import Action


class ExportIocsAction(Action):
    def run(self, task_id, detection_id, account, chat_user):
        return answer(
            self.config,
            outputs.export_iocs,
            task_id=task_id,
            detection_id=detection_id,
            account=account,
            chat_user=chat_user,
        )
