from ioc_scan.service import answer, tasks
from st2common.runners.base_action import Action


class CreateTaskAction(Action):
    def run(self, detection_id, custom_ioc, rule_type, account, chat_user):
        return answer(
            self.config,
            tasks.create_task,
            detection_id=detection_id,
            custom_ioc=custom_ioc,
            rule_type=rule_type,
            account=account,
            chat_user=chat_user,
        )
