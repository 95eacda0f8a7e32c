from ioc_scan.service import answer, learning
from st2common.runners.base_action import Action


class LearnKnownGoodAction(Action):
    def run(self, folder, device_id, origin, days, account, chat_user):
        return answer(
            self.config,
            learning.learn_known_good,
            folder=folder,
            device_id=device_id,
            origin=origin,
            days=days,
            account=account,
            chat_user=chat_user,
        )
