from ioc_scan.service import answer, views
from st2common.runners.base_action import Action


class ListDevicesAction(Action):
    def run(self, group, limit, offset):
        return answer(self.config, views.list_devices, group=group, limit=limit, offset=offset)
