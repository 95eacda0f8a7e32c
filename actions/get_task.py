from ioc_scan.service import answer, views
from st2common.runners.base_action import Action


class GetTaskAction(Action):
    def run(self, task_id):
        return answer(self.config, views.get_task, task_id=task_id)
