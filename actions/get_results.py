from ioc_scan.service import answer, views
from st2common.runners.base_action import Action


class GetResultsAction(Action):
    def run(self, task_id, run, device, tier, limit, offset):
        return answer(
            self.config,
            views.get_results,
            task_id=task_id,
            run=run,
            device=device,
            tier=tier,
            limit=limit,
            offset=offset,
        )
