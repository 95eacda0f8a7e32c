from ioc_scan.service import answer, collection
from st2common.runners.base_action import Action


class AwaitResultsAction(Action):
    def run(self, task_id):
        return answer(self.config, collection.await_results, task_id=task_id)
