from ioc_scan.service import answer, looking
from st2common.runners.base_action import Action


class GetCoverageAction(Action):
    def run(self, task_id, limit, offset):
        return answer(self.config, looking.get_coverage, task_id=task_id, limit=limit, offset=offset)
