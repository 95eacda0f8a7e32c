"""Workflows: order, retry, failure, context, and templates that arrive as text."""

from __future__ import annotations

import shutil
import textwrap

from tests.unit.standalone.conftest import PACK


def test_a_task_is_retried_until_its_result_says_so(engine):
    seen = []
    engine.on_execution(lambda e: seen.append((e["task"], e["status"])))
    execution = engine.run_action("small_pack.wait_and_tell", {"text": "go"}, user="ann")
    engine.wait_idle(10)
    assert execution["status"] == "succeeded"
    assert execution["result"] == {"output": {"calls": 3, "account": "ann", "error": None}}
    looks = [one for one in seen if one == ("look", "succeeded")]
    assert (len(looks), seen.count(("look", "delayed"))) == (3, 2)


def test_retries_used_up_leave_the_last_result(engine):
    execution = engine.run_action("small_pack.wait_and_tell", {"text": "go", "settled_after": 99})
    assert execution["status"] == "succeeded"
    assert execution["result"]["output"]["calls"] == 5


def test_children_carry_user_trace_and_parent(engine):
    execution = engine.run_action(
        "small_pack.wait_and_tell", {"text": "go", "settled_after": 1}, "bot", api_user="carl", trace_tag="t1"
    )
    engine.wait_idle(10)
    children = [one for one in engine.executions() if one["parent"] == execution["id"]]
    assert [one["task"] for one in children] == ["look", "say", "tell"]
    assert {one["trace_tag"] for one in children} == {"t1"}
    assert {one["context"]["user"] for one in children} == {"bot"}
    assert execution["result"]["output"]["account"] == "carl"


def test_an_injected_trigger_starts_its_rule_as_the_system_user(engine):
    engine.run_action("small_pack.wait_and_tell", {"text": "go", "settled_after": 1})
    engine.wait_idle(10)
    told = engine.executions()[-1]
    assert (told["rule"], told["trace_tag"]) == ("small_pack.on_told", "told-by-workflow")
    assert told["context"]["user"] == "stanley"
    assert told["result"]["result"]["number"] == 1


def test_a_failed_task_explains_itself_in_the_output(engine):
    execution = engine.run_action("small_pack.fail_with_reason", {"how": "fail"})
    assert execution["status"] == "failed"
    assert execution["result"]["output"]["error"]["code"] == "as_asked"
    assert execution["result"]["errors"]


def test_a_timed_out_task_is_failed(engine):
    execution = engine.run_action("small_pack.fail_with_reason", {"how": "sleep"})
    assert execution["status"] == "failed"
    assert execution["result"]["output"] == {"error": "None"}


def test_templates_in_results_are_not_safe_and_urlencoded_text_is(engine):
    """Text from a result is evaluated on its way, as in StackStorm: only the encoded form is inert."""
    encoded = "%7B%7B%207%2A7%20%7D%7D%3C%25%201%2B1%20%25%3E"
    for text, arrives in ((encoded, encoded), ("<% str(1 + 1) %>", "2"), ("{{ 7 * 7 }}", "49")):
        execution = engine.run_action("small_pack.wait_and_tell", {"text": text, "settled_after": 1})
        engine.wait_idle(10)
        said = [e for e in engine.executions() if e["parent"] == execution["id"] and e["task"] == "say"]
        assert said[0]["result"]["result"]["text"] == arrives


def test_bad_parameters_of_one_task_fail_the_whole_workflow(make_engine, tmp_path):
    run = _workflow(
        make_engine,
        tmp_path,
        """
        go:
          action: small_pack.count
          input:
            settled_after: <% "many" %>
          next:
            - when: <% failed() %>
              do: handler
        handler:
          action: small_pack.count
        """,
    )
    assert run["status"] == "failed"
    assert "is no integer" in run["result"]["errors"][0]["message"]
    assert run["children"] == []


def test_inspection_refuses_unknown_actions_and_inputs(make_engine, tmp_path):
    run = _workflow(
        make_engine,
        tmp_path,
        """
        one:
          action: small_pack.nothing
        two:
          action: small_pack.echo
          input:
            other: 1
        """,
    )
    said = " ".join(error["message"] for error in run["result"]["errors"])
    assert "small_pack.nothing" in said and "unexpected input" in said and "missing required" in said
    assert run["children"] == []


def test_branches_join_and_items_run_each(make_engine, tmp_path):
    run = _workflow(
        make_engine,
        tmp_path,
        """
        start:
          next:
            - do: left, right
        left:
          action: core.noop
          next:
            - do: both
        right:
          with: n in <% list(1, 2, 3) %>
          action: small_pack.echo
          input:
            text: word
            number: <% item(n) %>
          next:
            - when: <% succeeded() %>
              publish:
                - numbers: <% result().select($.result.number) %>
              do: both
        both:
          join: all
          action: core.echo
          input:
            message: <% st2kv('system.word', default => 'none') %> <% task(right).status %> <% ctx(numbers) %>
        """,
    )
    assert run["status"] == "succeeded", run["result"]
    assert [child["task"] for child in run["children"]].count("right") == 3
    assert run["children"][-1]["result"]["stdout"] == "none succeeded [1, 2, 3]"


def test_a_workflow_within_a_workflow(make_engine, tmp_path):
    run = _workflow(
        make_engine,
        tmp_path,
        """
        inner:
          action: small_pack.fail_with_reason how="fail"
          next:
            - when: <% failed() %>
              publish:
                - reason: <% result().output.error.code %>
              do: tell
        tell:
          action: core.echo message=<% ctx(reason) %>
        """,
    )
    assert run["status"] == "succeeded", str(run)
    assert run["children"][-1]["result"]["stdout"] == "as_asked"


def _workflow(make_engine, tmp_path, tasks):
    """Run ``tasks`` in place of a workflow of the small pack."""
    pack = tmp_path / "pack"
    shutil.copytree(PACK, pack, symlinks=True)
    body = "version: 1.0\ninput:\n  - how\noutput:\n  - done: true\ntasks:\n" + textwrap.indent(
        textwrap.dedent(tasks), "  "
    )
    (pack / "workflows" / "fail_with_reason.yaml").write_text(body)
    if "fail_with_reason" in tasks:
        original = (PACK / "workflows" / "fail_with_reason.yaml").read_text()
        (pack / "workflows" / "inner.yaml").write_text(original)
        metadata = (PACK / "actions" / "fail_with_reason.yaml").read_text()
        outer = metadata.replace("name: fail_with_reason", "name: outer")
        (pack / "actions" / "outer.yaml").write_text(outer)
        inner = metadata.replace("workflows/fail_with_reason.yaml", "workflows/inner.yaml")
        (pack / "actions" / "fail_with_reason.yaml").write_text(inner)
    engine = make_engine(pack=pack)
    ref = "small_pack.outer" if "fail_with_reason" in tasks else "small_pack.fail_with_reason"
    execution = engine.run_action(ref, {"how": "fail"})
    engine.wait_idle(10)
    execution["children"] = [e for e in engine.executions() if e["parent"] == execution["id"]]
    return execution
