from ioc_scan.service import answer, responses
from st2common.runners.base_action import Action


class RespondAction(Action):
    def run(self, task_id, match_ids, devices, dry_run, by_policy, account, chat_user):
        return answer(
            self.config,
            responses.respond,
            task_id=task_id,
            match_ids=match_ids,
            devices=devices,
            dry_run=dry_run,
            by_policy=by_policy,
            account=account,
            chat_user=chat_user,
        )
