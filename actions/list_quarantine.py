from ioc_scan.service import answer, views
from st2common.runners.base_action import Action


class ListQuarantineAction(Action):
    def run(self, device, state, limit, offset):
        return answer(
            self.config, views.list_quarantine, device=device, state=state, limit=limit, offset=offset
        )
