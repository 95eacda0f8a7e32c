"""Every trap that lint knows is found in a pack broken on purpose, one trap per file, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from standalone.lint import lint_pack

REPOSITORY = Path(__file__).resolve().parents[2]
FIXTURES = REPOSITORY / "tests" / "fixtures"

TRAPS = {
    "actions/bad_default.yaml": {"default_invalid"},
    "actions/bad_template.yaml": {"template_invalid"},
    "actions/dead_default.py": {"run_default_dead"},
    "actions/detached_child.py": {"detached_child_output"},
    "actions/entry_point_outside.yaml": {"entry_point_outside"},
    "actions/flow_missing_output.yaml": {"workflow_output_missing"},
    "actions/flow_unused_parameter.yaml": {"workflow_parameter_unused"},
    "actions/immutable_parameter.yaml": {"parameter_immutable"},
    "actions/lib": {"link_missing"},
    "actions/missing_entry_point.yaml": {"entry_point_missing"},
    "actions/network_in_init.py": {"network_in_init"},
    "actions/no_class.py": {"action_class"},
    "actions/no_description.yaml": {"description_missing"},
    "actions/no_output_schema.yaml": {"output_schema_missing"},
    "actions/not_yaml.yaml": {"file_unreadable"},
    "actions/old_output_schema.yaml": {"output_schema_untyped"},
    "actions/output_type_list.yaml": {"output_schema_type_list"},
    "actions/parameter_not_taken.py": {"run_signature"},
    "actions/postponed_dataclass.py": {"future_dataclass"},
    "actions/required_list_in_output.yaml": {"schema_required_list"},
    "actions/required_list_in_parameters.yaml": {"schema_required_list"},
    "actions/reserved_parameter.py": {"parameter_reserved"},
    "actions/reserved_parameter.yaml": {"parameter_reserved"},
    "actions/sleeping.py": {"action_sleeps"},
    "actions/syntax_error.py": {"python_syntax"},
    "actions/twice.yaml": {"yaml_key_twice"},
    "actions/two_classes.py": {"action_classes"},
    "actions/type_list.yaml": {"schema_invalid"},
    "actions/undescribed_parameter.yaml": {"description_missing"},
    "actions/unknown_key.yaml": {"action_metadata"},
    "actions/unknown_keyword.yaml": {"schema_invalid"},
    "actions/unknown_runner.yaml": {"action_runner"},
    "actions/untyped_parameter.yaml": {"parameter_untyped"},
    "actions/without_metadata.py": {"action_without_metadata"},
    "actions/workflows/failed_join.yaml": {"workflow_join_failed"},
    "actions/workflows/items_retry.yaml": {"workflow_items_retry"},
    "actions/workflows/missing_input.yaml": {"workflow_input_missing"},
    "actions/workflows/no_concurrency.yaml": {"workflow_concurrency_zero"},
    "actions/workflows/rejoin.yaml": {"workflow_rejoin"},
    "actions/workflows/task_named_items.yaml": {"workflow_task_name"},
    "actions/workflows/undeclared_input.yaml": {"workflow_input_undeclared"},
    "actions/workflows/undeclared_output.yaml": {"workflow_output_undeclared"},
    "actions/workflows/unexpected_input.yaml": {"workflow_input_unexpected"},
    "actions/workflows/unexplained.yaml": {"workflow_failure_unexplained"},
    "actions/workflows/unknown_action.yaml": {"workflow_action_unknown"},
    "actions/workflows/unknown_function.yaml": {"workflow_function_unknown"},
    "actions/workflows/unknown_variable.yaml": {"workflow_invalid"},
    "actions/workflows/wrong_trigger.yaml": {"trigger_payload", "trigger_unknown"},
    "aliases/absent_action.yaml": {"alias_action_unknown"},
    "aliases/bad_format.yaml": {"alias_format"},
    "aliases/missing_parameter.yaml": {"alias_parameter_missing"},
    "aliases/unknown_key.yaml": {"alias_metadata"},
    "aliases/unknown_parameter.yaml": {"alias_parameter_unknown"},
    "broken-pack.yaml.example": {
        "example_invalid",
        "example_unknown_key",
        "secret_decrypt_kv",
        "secret_with_text",
    },
    "config.schema.yaml": {"config_any_of", "config_required", "config_section_open"},
    "icon.png": {"pack_file_missing"},
    "lib/broken/uses_st2.py": {"lib_imports_st2"},
    "pack.yaml": {"pack_python_versions", "pack_ref_invalid", "pack_stackstorm_version", "pack_yaml_invalid"},
    "policies/absent_action.yaml": {"policy_action_unknown"},
    "policies/concurrency.yaml": {"policy_concurrency"},
    "policies/retry.yaml": {"policy_retry"},
    "requirements.txt": {"requirement_conflict", "requirement_relative"},
    "rules/body.yaml": {"rule_body_not_inert"},
    "rules/cron.yaml": {"cron_without_timezone"},
    "rules/datastore_pattern.yaml": {"rule_pattern_st2kv"},
    "rules/free_text.yaml": {"rule_free_text"},
    "rules/missing_parameter.yaml": {"rule_parameter_missing"},
    "rules/no_pattern.yaml": {"rule_criteria"},
    "rules/not_enabled.yaml": {"rule_enabled"},
    "rules/optional_field.yaml": {"rule_field_optional"},
    "rules/other_type.yaml": {"rule_eq_type"},
    "rules/raising.yaml": {"rule_operator_raises"},
    "rules/template_default.yaml": {"rule_default_wins"},
    "rules/unknown_action.yaml": {"rule_action_unknown"},
    "rules/unknown_criterion.yaml": {"rule_field_unknown"},
    "rules/unknown_field.yaml": {"rule_field_unknown"},
    "rules/unknown_filter.yaml": {"template_invalid"},
    "rules/unknown_name.yaml": {"template_invalid"},
    "rules/unknown_key.yaml": {"rule_metadata"},
    "rules/unknown_operator.yaml": {"rule_criteria"},
    "rules/unknown_parameter.yaml": {"rule_parameter_unknown"},
    "rules/unknown_trigger.yaml": {"rule_trigger_unknown"},
    "rules/wrong_timer.yaml": {"rule_timer"},
    "sensors/abstract.py": {"sensor_class"},
    "sensors/elsewhere": {"link_broken"},
    "sensors/first_start.py": {"sensor_cursor_outage"},
    "sensors/heavy.py": {"sensor_imports_store"},
    "sensors/impatient.yaml": {"poll_interval_low"},
    "sensors/lib_only.py": {"link_missing"},
    "sensors/list_payload.yaml": {"schema_required_list"},
    "sensors/no_entry_point.yaml": {"entry_point_missing"},
    "sensors/no_payload.yaml": {"payload_schema_missing"},
    "sensors/other_class.py": {"sensor_class"},
    "sensors/uncaught.py": {"sensor_poll_uncaught"},
    "sensors/undeclared.py": {"trigger_unknown"},
    "sensors/unknown_key.yaml": {"sensor_metadata"},
    "sensors/untagged.py": {"sensor_trace_tag"},
    "sensors/untyped_payload.yaml": {"payload_schema_untyped"},
    "sensors/without_metadata.py": {"sensor_without_metadata"},
    "sensors/wrong_keyword.py": {"sensor_trigger_keyword"},
    "workflows/unused.yaml": {"workflow_unused"},
}


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken") / "broken_pack"
    shutil.copytree(FIXTURES / "broken_pack", folder, symlinks=True)
    # Made here: a dangling link in this repository would fail the installation of this very pack.
    (folder / "sensors" / "elsewhere").symlink_to("../../elsewhere")
    return lint_pack(folder)


@pytest.mark.parametrize("file", sorted(TRAPS))
def test_the_trap_in_each_file_is_found(findings, file):
    assert {found.code for found in findings if found.file == file} == TRAPS[file]


def test_nothing_else_is_found(findings):
    by_file = defaultdict(set)
    for found in findings:
        by_file[found.file].add(found.code)
    assert dict(by_file) == TRAPS


def test_every_code_is_proved():
    sources = "".join(path.read_text() for path in (REPOSITORY / "standalone" / "lint").glob("*.py"))
    codes = set(re.findall(r'[fF]inding\(\s*"(\w+)"', sources)) | set(
        re.findall(r'", "(workflow_\w+)", "', sources)
    )
    assert codes - set().union(*TRAPS.values()) == {"config_too_large"}


def test_an_example_too_large_for_one_argument_is_found(tmp_path):
    shutil.copytree(FIXTURES / "standalone_pack", tmp_path / "pack", symlinks=True)
    with (tmp_path / "pack" / "small_pack.yaml.example").open("a") as example:
        example.write("# " + "x" * 131_072)
    assert [found.code for found in lint_pack(tmp_path / "pack")] == ["config_too_large"]


def test_findings_say_where_and_what_to_do(findings):
    assert all(found.what and found.todo for found in findings)
    places = {(found.file, found.line) for found in findings}
    assert ("sensors/impatient.yaml", 5) in places
    assert ("rules/body.yaml", 12) in places
    assert ("actions/two_classes.py", 9) in places
    assert ("actions/required_list_in_parameters.yaml", 11) in places


def test_a_good_pack_is_clean():
    assert lint_pack(FIXTURES / "standalone_pack") == []


def test_this_pack_is_clean():
    assert [str(found) for found in lint_pack(REPOSITORY)] == []


def test_the_command_answers_with_its_exit_status():
    def lint(name):
        command = [sys.executable, "-m", "standalone", "lint", str(FIXTURES / name), "--json"]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)

    good, broken = lint("standalone_pack"), lint("broken_pack")
    assert (good.returncode, json.loads(good.stdout)) == (0, [])
    assert broken.returncode == 1
    assert {"code", "file", "line", "what", "todo"} == set(json.loads(broken.stdout)[0])
