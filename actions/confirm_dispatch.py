from ioc_scan.service import answer, collection
from st2common.runners.base_action import Action


class ConfirmDispatchAction(Action):
    def run(self, outbox_ids):
        return answer(self.config, collection.confirm_dispatch, outbox_ids=outbox_ids)
