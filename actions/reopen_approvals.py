from ioc_scan.service import answer, decisions
from st2common.runners.base_action import Action


class ReopenApprovalsAction(Action):
    def run(self, task_id, match_ids, devices, account, chat_user):
        return answer(
            self.config,
            decisions.reopen_approvals,
            task_id=task_id,
            match_ids=match_ids,
            devices=devices,
            account=account,
            chat_user=chat_user,
        )
