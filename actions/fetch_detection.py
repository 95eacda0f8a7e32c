from ioc_scan.service import answer, intake
from st2common.runners.base_action import Action


class FetchDetectionAction(Action):
    def run(self, detection_id, degraded):
        return answer(self.config, intake.fetch_detection, detection_id=detection_id, degraded=degraded)
