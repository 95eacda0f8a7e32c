from pathlib import Path

from st2common.runners.base_action import Action


class LookUpHashesAction(Action):
    def run(self, hashes, known_file):
        """Replace this by your own sources: software inventory, reputation service, MISP."""
        path = known_file or self.config.get("own_hashes_file")
        known = set(Path(path).read_text(encoding="ascii").split()) if path else set()
        own = sorted(set(hashes) & known)
        return True, {"own": own, "unknown": sorted(set(hashes) - known)}
