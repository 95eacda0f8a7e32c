from ioc_scan.service import answer, views
from st2common.runners.base_action import Action


class ListEventsAction(Action):
    def run(self, task_id, detection_id, type, limit, offset):
        return answer(
            self.config,
            views.list_events,
            task_id=task_id,
            detection_id=detection_id,
            type=type,
            limit=limit,
            offset=offset,
        )
