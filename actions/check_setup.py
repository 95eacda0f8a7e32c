from ioc_scan.service import answer, setup
from st2common.runners.base_action import Action


class CheckSetupAction(Action):
    def run(self):
        return answer(self.config, setup.check_setup)
