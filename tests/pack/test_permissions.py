"""The role files and the table of docs/permissions.md say what the code does."""

from __future__ import annotations

import importlib.util
import itertools
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from ioc_scan.service.rights import RIGHTS, ROLES

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_permissions", DOCS / "build_permissions.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_action_is_in_the_table_and_every_right_is_one(builder: ModuleType) -> None:
    actions = {path.stem for path in (DOCS.parent / "actions").glob("*.yaml")}
    assert set(builder.ACTIONS) == actions
    assert set(builder.ACTIONS.values()) <= {*RIGHTS, builder.LOOK, builder.UPKEEP}
    assert set(builder.ORDER) == set(ROLES) - {"none"}


def test_the_page_and_the_role_files_are_as_the_code_says(builder: ModuleType) -> None:
    page = (DOCS / "permissions.md").read_text(encoding="utf-8")
    assert builder.page(page) == page, "run docs/build_permissions.py"
    for role in builder.ORDER:
        assert (DOCS / "rbac" / "roles" / f"ioc_scan_{role}.yaml").read_text() == builder.role_file(role)


def test_the_machine_may_run_exactly_what_creates_tasks(builder: ModuleType) -> None:
    grants = yaml.safe_load((DOCS / "rbac" / "roles" / "ioc_scan_machine.yaml").read_text())[
        "permission_grants"
    ]
    names = {grant["resource_uid"].rsplit(":", 1)[1] for grant in grants}
    assert names == {"fetch_detection", "submit_detection", "generate_ioc", "create_task", "start_task"}


def test_each_higher_role_may_run_all_a_lower_may(builder: ModuleType) -> None:
    people = [role for role in builder.ORDER if role != "machine"]
    for lower, higher in itertools.pairwise(people):
        for action in builder.ACTIONS:
            assert builder.may_run(higher, action) >= builder.may_run(lower, action)


def test_the_role_of_the_sensor_names_the_key_it_writes() -> None:
    role = yaml.safe_load((DOCS / "rbac" / "roles" / "ioc_scan_sensor.yaml.example").read_text())
    sensor = yaml.safe_load((DOCS.parent / "sensors" / "sandbox_detections.yaml").read_text())
    source = (DOCS.parent / "sensors" / "sandbox_detections.py").read_text()
    prefix = re.search(r'^STATE_PREFIX = "(.+)"$', source, re.MULTILINE)
    assert prefix is not None
    key = f"key_value_pair:st2kv.system:ioc_scan.{sensor['class_name']}:{prefix[1]}"
    assert [grant["resource_uid"] for grant in role["permission_grants"]] == [key + "lab"]
