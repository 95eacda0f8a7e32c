from ioc_scan.service import answer, tasks
from st2common.runners.base_action import Action


class DeleteTaskAction(Action):
    def run(self, task_id, account, chat_user):
        return answer(self.config, tasks.delete_task, task_id=task_id, account=account, chat_user=chat_user)
