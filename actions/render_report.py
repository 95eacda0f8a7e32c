from ioc_scan.service import answer, outputs
from st2common.runners.base_action import Action


class RenderReportAction(Action):
    def run(self, task_id, format):
        return answer(self.config, outputs.render_report, task_id=task_id, format=format)
