from ioc_scan.service import answer, decisions
from st2common.runners.base_action import Action


class ListApprovalsAction(Action):
    def run(self, task_id, state, limit, offset):
        return answer(
            self.config, decisions.list_approvals, task_id=task_id, state=state, limit=limit, offset=offset
        )
