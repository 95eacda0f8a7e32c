"""What a manager makes of devices that lie, flood, replay or write garbage."""

from __future__ import annotations

import base64
import hashlib
import json
import os

import pytest
from ioc_scan.devices.base import EventKind

from .harness import OTHER, ContractBase, Fleet, of, read_all, states


class LiesContract(ContractBase):
    # -- lies

    def test_honest_results_pass(self, fleet: Fleet) -> None:
        job = self.place_unstarted(fleet)
        self.forge(fleet, "ws01", job, [self.match_line(fleet, "ws01", job)])
        events, _ = read_all(fleet.manager, job.id)
        assert len(of(events, EventKind.MATCH)) == 1
        assert of(events, EventKind.REJECTED) == []

    @pytest.mark.parametrize("where", ["line", "status"])
    def test_a_device_that_names_another_is_held_alone(self, fleet: Fleet, where: str) -> None:
        job = self.place_unstarted(fleet)
        for device in ("ws01", "ws02"):
            self.forge(fleet, device, job, [self.match_line(fleet, device, job)])
        if where == "line":
            lie = self.match_line(fleet, "ws01", job, device_id="ws02")
            self.forge(fleet, "ws01", job, [lie, self.match_line(fleet, "ws01", job, 2)])
        else:
            self.forge(fleet, "ws01", job, [], device_id="ws02")
        events, cursor = read_all(fleet.manager, job.id)
        assert [e.device_id for e in of(events, EventKind.MATCH)] == ["ws02"]
        assert [e.data["code"] for e in of(events, EventKind.HELD, "ws01")] == ["wrong_device"]
        assert of(events, EventKind.HELD, "ws02") == []
        self.forge(fleet, "ws01", job, [self.match_line(fleet, "ws01", job, 3)])
        assert read_all(fleet.manager, job.id, cursor)[0] == []

    def test_matches_that_the_plan_does_not_know_are_dropped(self, fleet: Fleet) -> None:
        job = self.place_unstarted(fleet, device_ids=["ws01"])
        foreign = hashlib.sha256(OTHER).hexdigest()
        good = self.match_line(fleet, "ws01", job, 9)
        item = good["item"]
        lies = [
            self.match_line(fleet, "ws01", job, 1, sha256=foreign),
            self.match_line(fleet, "ws01", job, 2, sha256=foreign, item={**item, "Sha256sum": foreign}),
            self.match_line(fleet, "ws01", job, 3, sha256=None),
            self.match_line(fleet, "ws01", job, 4, ioc="0" * 64),
            self.match_line(fleet, "ws01", job, 5, size=1),
            self.match_line(fleet, "ws01", job, 6, path_b64=base64.b64encode(b"relative").decode()),
            self.match_line(fleet, "ws01", job, 7, tier="hunt"),
            good,
        ]
        self.forge(fleet, "ws01", job, lies)
        events, _ = read_all(fleet.manager, job.id)
        passed = of(events, EventKind.MATCH)
        # the tier is the plan's word, whatever the device says
        assert [(e.seq, e.data["tier"]) for e in passed] == [(7, "actionable"), (9, "actionable")]
        assert sum(e.data["count"] for e in of(events, EventKind.REJECTED)) == 6

    def test_garbage_is_counted_and_survived(self, fleet: Fleet) -> None:
        job = self.place_unstarted(fleet, device_ids=["ws01"])
        good = self.match_line(fleet, "ws01", job, 50)
        garbage = [
            b"\xff\xfe\x00\n",
            b"[" * 100_000 + b"\n",
            b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"\n",
            b"null\n",
            b'"text"\n',
            b'{"seq": 1}\n',
            b'{"type": "match", "seq": NaN}\n',
            b'{"type": "skip", "seq": 1e999, "path": "x", "reason": "y"}\n',
            b'{"type": "skip", "seq": 99999999999999999999999999, "path": "x", "reason": "y"}\n',
            b'{"type": "skip", "seq": true, "path": "x", "reason": "y"}\n',
            b'{"type": "format_disk", "seq": 1}\n',
            b'{"type": "response", "seq": 1, "match_id": "match-1", "outcome": "quarantined"}\n',
            {**good, "seq": 2, "item": {"x" * 100: "y"}},
            {**good, "seq": 3, "item": {f"Field{n}": n for n in range(1000)}},
            {**good, "seq": 4, "item": {"FullPath": {"deep": {"deeper": []}}}},
            {**good, "seq": 5, "proof": "everything"},
            b"x" * 3_000_000 + b"\n",
            good,
        ]
        self.forge(fleet, "ws01", job, garbage)
        events, _ = read_all(fleet.manager, job.id)
        assert [e.seq for e in of(events, EventKind.MATCH)] == [50]
        assert sum(e.data["count"] for e in of(events, EventKind.REJECTED)) == len(garbage) - 1

    def test_a_line_longer_than_any_read_is_passed_over(self, fleet: Fleet) -> None:
        job = self.place_unstarted(fleet, device_ids=["ws01"])
        line = self.match_line(fleet, "ws01", job, 2)
        self.forge(fleet, "ws01", job, [b"x" * 20_000_000 + b"\n", line], state="done")
        events, _ = read_all(fleet.manager, job.id)
        assert [e.seq for e in of(events, EventKind.MATCH)] == [2]
        assert [e.data["count"] for e in of(events, EventKind.REJECTED)] == [1]
        assert states(events, "ws01")[-1] == "done"

    @pytest.mark.parametrize(
        "status",
        [
            b"",
            b"[]",
            b"\x00" * 100,
            b"[" * 100_000,
            json.dumps({"protocol": 1, "job_id": "task1.1", "device_id": "ws01", "run": 1, "state": "owned"}),
            json.dumps({"protocol": 1, "job_id": "other", "device_id": "ws01", "run": 1, "state": "done"}),
            json.dumps(
                {
                    "protocol": 1,
                    "job_id": "task1.1",
                    "device_id": "ws01",
                    "run": 1,
                    "state": "running",
                    "files_seen": -1,
                    "not_evaluated": 7,
                }
            ),
            json.dumps(
                {
                    "protocol": 1,
                    "job_id": "task1.1",
                    "device_id": "ws01",
                    "run": 1,
                    "state": "done",
                    "not_evaluated": 7,
                }
            ),
        ],
    )
    def test_a_status_that_is_none_harms_nobody(self, fleet: Fleet, status: str | bytes) -> None:
        job = self.place_unstarted(fleet, device_ids=["ws01"])
        self.forge(fleet, "ws01", job, [self.match_line(fleet, "ws01", job)])
        path = fleet.job_folder("ws01", job.id) / "status.json"
        path.write_bytes(status if isinstance(status, bytes) else status.encode())
        events, cursor = read_all(fleet.manager, job.id)
        assert len(of(events, EventKind.MATCH)) == 1
        assert read_all(fleet.manager, job.id, cursor)[0] == []

    def test_text_arrives_as_data_that_a_database_takes(self, fleet: Fleet) -> None:
        job = self.place_unstarted(fleet, device_ids=["ws01"])
        nasty = "{{ 7*7 }}<% 1+1 %>\u202e\x00\ud800<script>alert(1)</script>\n.exe"
        line = self.match_line(fleet, "ws01", job, path=nasty)
        line["item"]["FileName"] = nasty
        self.forge(fleet, "ws01", job, [line])
        (match,) = of(read_all(fleet.manager, job.id)[0], EventKind.MATCH)
        for text in (match.data["path"], match.data["item"]["FileName"]):
            text.encode("utf-8")
            assert "\0" not in text
            assert "{{ 7*7 }}<% 1+1 %>" in text

    def test_a_flood_is_held_alone(self, fleet: Fleet) -> None:
        job = self.place_unstarted(fleet)
        self.forge(fleet, "ws01", job, [b"garbage\n" * 100_000])
        self.forge(fleet, "ws02", job, [self.match_line(fleet, "ws02", job)])
        events, cursor = read_all(fleet.manager, job.id)
        assert [e.data["code"] for e in of(events, EventKind.HELD)] == ["too_many_rejected"]
        assert len(events) < 50
        assert [e.device_id for e in of(events, EventKind.MATCH)] == ["ws02"]
        assert read_all(fleet.manager, job.id, cursor)[0] == []

    @pytest.mark.parametrize("state", ["running", "done"])
    def test_a_replay_is_held_and_loses_nothing(self, fleet: Fleet, state: str) -> None:
        job = self.place_unstarted(fleet, device_ids=["ws01"])
        lines = [self.match_line(fleet, "ws01", job, n) for n in (1, 2, 1, 2, 3)]
        self.forge(fleet, "ws01", job, lines, state=state)
        events, cursor = read_all(fleet.manager, job.id)
        assert {e.seq for e in of(events, EventKind.MATCH)} == {1, 2}
        assert [e.data["code"] for e in of(events, EventKind.HELD)] == ["replayed"]
        assert len(of(events, EventKind.MATCH)) <= 20
        assert read_all(fleet.manager, job.id, cursor)[0] == []

    @pytest.mark.parametrize("state", ["running", "done"])
    def test_results_written_anew_after_a_power_loss_are_read_anew(self, fleet: Fleet, state: str) -> None:
        job = self.place_unstarted(fleet, device_ids=["ws01"])
        self.forge(fleet, "ws01", job, [self.match_line(fleet, "ws01", job, n) for n in (1, 2, 3)])
        _, cursor = read_all(fleet.manager, job.id)
        rewritten = [self.match_line(fleet, "ws01", job, 1), self.match_line(fleet, "ws01", job, 2)]
        rewritten[1]["item_key"] = "e" * 64
        self.forge(fleet, "ws01", job, rewritten, state=state)
        events, _ = read_all(fleet.manager, job.id, cursor)
        assert "e" * 64 in {e.data["item_key"] for e in of(events, EventKind.MATCH)}
        assert of(events, EventKind.HELD) == []

    def test_a_pipe_or_link_in_the_job_folder_is_not_followed(self, fleet: Fleet) -> None:
        job = self.place_unstarted(fleet, device_ids=["ws01", "ws02"])
        line = json.dumps(self.match_line(fleet, "ws01", job)).encode() + b"\n"
        secret = fleet.plant("ws03", "secret.jsonl", line)
        self.forge(fleet, "ws01", job, [])
        results = fleet.job_folder("ws01", job.id) / "results.jsonl"
        results.unlink()
        results.symlink_to(secret)
        self.forge(fleet, "ws02", job, [self.match_line(fleet, "ws02", job)])
        pipe = fleet.job_folder("ws02", job.id) / "status.json"
        pipe.unlink()
        os.mkfifo(pipe)
        events, _ = fleet.manager.poll(job.id, None)
        assert of(events, EventKind.MATCH, "ws01") == []
