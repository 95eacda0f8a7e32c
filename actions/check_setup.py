from st2common.runners.base_action import Action

from ioc_scan.service import answer, setup


class CheckSetupAction(Action):
    def run(self):
        return answer(self.config, setup.check_setup)
