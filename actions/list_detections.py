from ioc_scan.service import answer, looking
from st2common.runners.base_action import Action


class ListDetectionsAction(Action):
    def run(self, decision, limit, offset):
        return answer(self.config, looking.list_detections, decision=decision, limit=limit, offset=offset)
