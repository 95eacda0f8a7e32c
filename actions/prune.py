from ioc_scan.service import answer, lifetimes
from st2common.runners.base_action import Action


class PruneAction(Action):
    def run(self, dry_run):
        return answer(self.config, lifetimes.prune, dry_run=dry_run)
