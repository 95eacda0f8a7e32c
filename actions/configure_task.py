from ioc_scan.service import answer, configuring
from st2common.runners.base_action import Action


# fmt: off
class ConfigureTaskAction(Action):
    def run(self, task_id, response_mode, group, quarantine, terminate_processes, exclude_devices,
            scope, roots, idle_only, idle_max_wait_hours, cpu_percent, account, chat_user,
            start, start_window, start_time_zone, start_period_hours):
        return answer(
            self.config, configuring.configure_task, task_id=task_id, response_mode=response_mode,
            group=group, quarantine=quarantine, terminate_processes=terminate_processes,
            exclude_devices=exclude_devices, scope=scope, roots=roots, idle_only=idle_only,
            idle_max_wait_hours=idle_max_wait_hours, cpu_percent=cpu_percent,
            start=start, start_window=start_window, start_time_zone=start_time_zone,
            start_period_hours=start_period_hours,
            account=account, chat_user=chat_user,
        )
