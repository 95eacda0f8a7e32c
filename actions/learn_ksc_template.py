from ioc_scan.service import answer, templates
from st2common.runners.base_action import Action


class LearnKscTemplateAction(Action):
    def run(
        self, manager, report_template, respond_template, marker_file, confirm_digest, account, chat_user
    ):
        return answer(
            self.config,
            templates.learn_ksc_template,
            manager=manager,
            report_template=report_template,
            respond_template=respond_template,
            marker_file=marker_file,
            confirm_digest=confirm_digest,
            account=account,
            chat_user=chat_user,
        )
