from ioc_scan.service import answer, tasks
from st2common.runners.base_action import Action


class GenerateIocAction(Action):
    def run(self, detection_id):
        return answer(self.config, tasks.generate_ioc, detection_id=detection_id)
