from ioc_scan.service import answer, decisions
from st2common.runners.base_action import Action


class RejectMatchesAction(Action):
    def run(self, task_id, match_ids, devices, reason, account, chat_user):
        return answer(
            self.config,
            decisions.reject_matches,
            task_id=task_id,
            match_ids=match_ids,
            devices=devices,
            reason=reason,
            account=account,
            chat_user=chat_user,
        )
