from st2common.runners.base_action import Action

from ioc_scan.service import answer, views


class GetTaskAction(Action):
    def run(self, task_id):
        return answer(self.config, views.get_task, task_id=task_id)
