from ioc_scan.service import answer, intake
from st2common.runners.base_action import Action


class SubmitDetectionAction(Action):
    def run(self, payload, source):
        return answer(self.config, intake.submit_detection, payload=payload, source=source)
