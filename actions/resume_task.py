from ioc_scan.service import answer, steering
from st2common.runners.base_action import Action


class ResumeTaskAction(Action):
    def run(self, task_id, account, chat_user):
        return answer(
            self.config, steering.resume_task, task_id=task_id, account=account, chat_user=chat_user
        )
