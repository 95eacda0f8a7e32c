from ioc_scan.service import answer, restores
from st2common.runners.base_action import Action


class RestoreObjectAction(Action):
    def run(self, device_id, quarantine_id, manager, account, chat_user):
        return answer(
            self.config,
            restores.restore_object,
            device_id=device_id,
            quarantine_id=quarantine_id,
            manager=manager,
            account=account,
            chat_user=chat_user,
        )
