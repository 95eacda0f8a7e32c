from ioc_scan.service import answer, looking
from st2common.runners.base_action import Action


class ExplainDetectionAction(Action):
    def run(self, detection_id, tier, limit, offset):
        return answer(
            self.config,
            looking.explain_detection,
            detection_id=detection_id,
            tier=tier,
            limit=limit,
            offset=offset,
        )
