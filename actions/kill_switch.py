from ioc_scan.service import answer, killswitch
from st2common.runners.base_action import Action


class KillSwitchAction(Action):
    def run(self, switch, reason, account, chat_user):
        return answer(
            self.config,
            killswitch.kill_switch,
            switch=switch,
            reason=reason,
            account=account,
            chat_user=chat_user,
        )
