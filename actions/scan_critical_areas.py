from ioc_scan.service import answer, critical
from st2common.runners.base_action import Action


class ScanCriticalAreasAction(Action):
    def run(self, task_id, devices, account, chat_user):
        return answer(
            self.config,
            critical.scan_critical_areas,
            task_id=task_id,
            devices=devices,
            account=account,
            chat_user=chat_user,
        )
