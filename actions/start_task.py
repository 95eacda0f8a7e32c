from ioc_scan.service import answer, tasks
from st2common.runners.base_action import Action


class StartTaskAction(Action):
    def run(self, task_id, new_run, account, chat_user, widen):
        return answer(
            self.config,
            tasks.start_task,
            task_id=task_id,
            new_run=new_run,
            account=account,
            chat_user=chat_user,
            widen=widen,
        )
