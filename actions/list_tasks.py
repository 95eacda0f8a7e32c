from ioc_scan.service import answer, views
from st2common.runners.base_action import Action


class ListTasksAction(Action):
    def run(self, state, limit, offset):
        return answer(self.config, views.list_tasks, state=state, limit=limit, offset=offset)
