from ioc_scan.service import answer, looking
from st2common.runners.base_action import Action


class HealthAction(Action):
    def run(self):
        return answer(self.config, looking.health)
