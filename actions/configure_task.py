from ioc_scan.service import answer, configuring
from st2common.runners.base_action import Action


# fmt: off
class ConfigureTaskAction(Action):
    def run(self, task_id, response_mode, group, quarantine, terminate_processes, exclude_devices,
            scope, roots, idle_only, idle_max_wait_hours, cpu_percent, account, chat_user):
        return answer(
            self.config, configuring.configure_task, task_id=task_id, response_mode=response_mode,
            group=group, quarantine=quarantine, terminate_processes=terminate_processes,
            exclude_devices=exclude_devices, scope=scope, roots=roots, idle_only=idle_only,
            idle_max_wait_hours=idle_max_wait_hours, cpu_percent=cpu_percent,
            account=account, chat_user=chat_user,
        )
