from ioc_scan.service import answer, steering
from st2common.runners.base_action import Action


class CancelTaskAction(Action):
    def run(self, task_id, reason, account, chat_user):
        return answer(
            self.config,
            steering.cancel_task,
            task_id=task_id,
            reason=reason,
            account=account,
            chat_user=chat_user,
        )
