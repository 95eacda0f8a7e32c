"""check-config and check_setup: what is wrong, said before it is needed; and configurations of earlier releases."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ioc_scan.cli import main
from ioc_scan.config import load_config
from ioc_scan.service.setup import check_setup

from standalone.config import resolve_config
from standalone.pack import load_pack

from .world import World

REPOSITORY = Path(__file__).resolve().parents[2]
EARLIER = sorted((REPOSITORY / "tests" / "fixtures" / "config").glob("*.yaml"))
SOURCE = {"name": "lab", "type": "cape", "url": "https://cape.example.org"}


@pytest.mark.parametrize("path", EARLIER, ids=lambda path: path.stem)
def test_the_example_of_every_earlier_release_still_loads(path: Path) -> None:
    """The schema only gains optional keys: an upgrade never stops on a configuration that worked."""
    config = load_config(yaml.safe_load(path.read_text()))
    assert config["threat_response_policies"] and config["sources"]


@pytest.mark.parametrize("path", EARLIER, ids=lambda path: path.stem)
def test_it_loads_as_stackstorm_hands_it_over(path: Path) -> None:
    """StackStorm makes every section with properties, so nothing inside an optional one may be required."""
    raw = yaml.safe_load(path.read_text())
    raw["device_managers"].append({"name": "remote", "type": "ssh"})
    resolved = resolve_config(load_pack(REPOSITORY), raw, lambda name: None, "stanley")
    load_config(json.loads(json.dumps(resolved)))


def test_the_present_release_keeps_a_copy_of_its_example() -> None:
    version = yaml.safe_load((REPOSITORY / "pack.yaml").read_text())["version"]
    assert version in [path.stem for path in EARLIER]


def test_an_empty_configuration_is_enough_to_start() -> None:
    assert load_config(None)["rights"] == {"accounts": []}


def checked(tmp_path: Path, capsys: pytest.CaptureFixture[str], config: Any, *options: str) -> dict[str, Any]:
    path = tmp_path / "config.yaml"
    path.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    status = main(["check-config", str(path), "--json", *options])
    answer = json.loads(capsys.readouterr().out)
    assert status == (0 if answer["ok"] else 1)
    return dict(answer)


def codes(answer: dict[str, Any], severity: str = "error") -> list[str]:
    return [finding["code"] for finding in answer["findings"] if finding["severity"] == severity]


def test_the_example_is_fine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config", str(REPOSITORY / "ioc_scan.yaml.example")]) == 0
    assert "st2ctl reload --register-configs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("Token {{ st2kv.system.cape }}", "secret_with_text"),
        ("{{ st2kv.system.cape }} ", None),
        ("{{ st2kv.system.cape | decrypt_kv }}", "secret_with_filter"),
        ("{{ config_context.token }}", "secret_with_text"),
        ("{{ st2kv.system.cape }}", None),
    ],
)
def test_secrets_that_would_stop_every_action(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], token: str, code: str | None
) -> None:
    answer = checked(tmp_path, capsys, {"sources": [SOURCE | {"token": token}]})
    assert codes(answer) == ([code] if code else [])
    if code is None:
        (note,) = [finding for finding in answer["findings"] if finding["severity"] == "note"]
        assert "--encrypt" in note["hint"] and note["where"] == "sources.lab.token"


def test_other_expressions_and_secrets_in_the_clear(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = checked(
        tmp_path, capsys, {"sources": [SOURCE | {"token": "abc", "url": "{{ st2kv.system.url }}"}]}
    )
    assert "expression_not_secret" in codes(answer, "warning")
    answer = checked(tmp_path, capsys, {"sources": [SOURCE | {"token": "abc"}]})
    assert codes(answer, "warning")[0] == "secret_in_clear" and "abc" not in json.dumps(answer)


def test_files_that_are_named_must_be_readable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = checked(tmp_path, capsys, {"sources": [SOURCE | {"token_file": str(tmp_path / "none")}]})
    assert codes(answer) == ["file_unreadable"]


@pytest.mark.parametrize(
    ("text", "code"),
    [("sourcs: []", "config_invalid"), ("sources: [{name: lab}]", "config_invalid")],
)
def test_misspelt_and_missing_keys_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, code: str
) -> None:
    assert codes(checked(tmp_path, capsys, text)) == [code]


@pytest.mark.parametrize("text", ["a: {{ b }}", "a: [", "- 1", "\x00"])
def test_what_is_no_yaml_is_said_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert main(["check-config", str(path)]) in (1, 2)
    out = capsys.readouterr()
    assert "Traceback" not in out.err and (
        out.err.startswith("error: config_") or "config_invalid" in out.out
    )


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config", str(tmp_path / "none.yaml")]) == 2
    assert "config_unreadable" in capsys.readouterr().err


def test_trying_finds_what_looking_cannot(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checked(tmp_path, capsys, world.config, "--try")["ok"]
    world.config["sources"][0]["path"] = str(tmp_path / "absent")
    assert codes(checked(tmp_path, capsys, world.config)) == []
    assert codes(checked(tmp_path, capsys, world.config, "--try"))


# -- check_setup


def setup_codes(world: World) -> dict[str, str]:
    with world.context() as context:
        return {check["name"]: check["code"] for check in check_setup(context)["checks"]}


def test_rights_and_chat_identities_are_looked_at(town: World) -> None:
    assert setup_codes(town)["rights"] == "warning_no_roles"
    town.config["rights"] = {"accounts": [{"account": "alice", "role": "responder", "groups": ["nobody"]}]}
    town.config["chat_identities"] = {"U1": "bob"}
    found = setup_codes(town)
    assert found["chat identities"] == "warning_chat_identity"
    with town.context() as context:
        names = [check["code"] for check in check_setup(context)["checks"]]
    assert "warning_group_unknown" in names and "warning_no_roles" not in names


def test_keys_in_the_configuration_itself_are_a_warning_and_not_shown(town: World, tmp_path: Path) -> None:
    assert setup_codes(town)["secrets"] == "ok"
    lab = {"name": "c1", "type": "cape", "url": "http://127.0.0.1:9"}
    town.config["sources"].append({**lab, "token": "s3cr3t"})
    with town.context() as context:
        answer = check_setup(context)
    assert "warning_secret_in_config" in [check["code"] for check in answer["checks"]]
    assert "c1.token" in str(answer) and "s3cr3t" not in str(answer)
    (tmp_path / "key").write_text("s3cr3t")
    town.config["sources"][-1] = {**lab, "token_file": str(tmp_path / "key")}
    assert setup_codes(town)["secrets"] == "ok"


def test_a_clock_that_runs_behind_is_noticed(town: World) -> None:
    with town.context() as context:
        town.submit(context, b"x" * 100)
    assert setup_codes(town)["clock"] == "ok"
    town.clock.ahead(hours=-1)
    assert setup_codes(town)["clock"] == "clock_behind"


def test_syslog_that_is_not_there_is_a_warning(town: World) -> None:
    town.config["audit"] = {"syslog_address": "/nowhere/log"}
    with town.context() as context:
        answer = check_setup(context)
    assert "warning_syslog_unreachable" in [check["code"] for check in answer["checks"]] and answer["ok"]
    town.config["audit"] = {"syslog": False}
    assert setup_codes(town)["audit"] == "ok"


@pytest.mark.parametrize(
    ("days", "code"), [(-1, "certificate_expired"), (10, "warning_certificate_ends"), (300, "ok")]
)
def test_certificates_are_looked_at_before_they_end(
    town: World, tmp_path: Path, days: int, code: str
) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(certificate(town.clock() + dt.timedelta(days=days)))
    town.config["sources"].append(SOURCE | {"name": "cape", "ca_file": str(path), "token": "t"})
    assert setup_codes(town)["cape.ca_file"] == code


def certificate(ends: dt.datetime) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(ends - dt.timedelta(days=400))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)
