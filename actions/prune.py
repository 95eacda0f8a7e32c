from st2common.runners.base_action import Action

from ioc_scan.service import answer, lifetimes


class PruneAction(Action):
    def run(self, dry_run):
        return answer(self.config, lifetimes.prune, dry_run=dry_run)
