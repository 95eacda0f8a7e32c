"""The numbers of matches kept beside a task are those that counting gives, whatever was done to the matches."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from ioc_scan.store import Store, Transaction
from ioc_scan.store.states import RESPONSE_STATES

from . import make
from .conftest import Clock

TASKS = ("task-1", "task-2", "task-3")


class Hand:
    """Does something to the matches of a store, drawn at random."""

    def __init__(self, seed: int, clock: Clock) -> None:
        self.draw = random.Random(seed)
        self.clock = clock
        self.doings = (self.add, self.add, self.claim, self.answer, self.move, self.release, self.prune)

    def any_ids(self, tx: Transaction) -> list[str]:
        rows = tx.matches.list(limit=1000)
        return [row["match_id"] for row in self.draw.sample(rows, min(len(rows), self.draw.randrange(6)))]

    def any_state(self) -> str:
        return self.draw.choice(sorted(RESPONSE_STATES))

    def add(self, tx: Transaction) -> None:
        kept = [row["task_id"] for row in tx.tasks.list()]
        rows = [
            make.match(
                self.clock(),
                f"item-{self.draw.randrange(30)}",
                self.draw.choice(kept),
                tier=self.draw.choice(("actionable", "hunt")),
                device_id=f"ws{self.draw.randrange(3)}",
            )
            for _ in range(self.draw.randrange(10) if kept else 0)
        ]
        tx.matches.add(rows)

    def claim(self, tx: Transaction) -> None:
        some = self.draw.choice((None, self.any_ids(tx)))
        tx.matches.claim(self.draw.choice(TASKS), some, "r1", self.clock(), limit=3)

    def answer(self, tx: Transaction) -> None:
        for match_id in self.any_ids(tx):
            of = self.draw.choice((None, "r1"))
            tx.matches.set_response(match_id, self.any_state(), now=self.clock(), response_id=of)

    def move(self, tx: Transaction) -> None:
        tx.matches.move(self.any_ids(tx), {self.any_state(), "none"}, self.any_state())

    def release(self, tx: Transaction) -> None:
        tx.matches.release_stale(self.clock() - timedelta(minutes=self.draw.randrange(5)))

    def prune(self, tx: Transaction) -> None:
        if self.draw.random() < 0.4:
            cutoff = self.clock() - timedelta(minutes=self.draw.randrange(10))
            tx.deletion.delete_results_before(cutoff, limit=self.draw.randrange(1, 5))
        elif self.draw.random() < 0.2:
            task_id = self.draw.choice(TASKS)
            tx.tasks.end(task_id, "expired", "over", self.clock())
            if tx.tasks.get(task_id) is not None:
                tx.task_summaries.write(task_id)
            tx.deletion.delete_task_rows(task_id, limit=5)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_kept_is_what_counting_gives(store: Store, clock: Clock, seed: int) -> None:
    hand = Hand(seed, clock)
    with store.transaction() as tx:
        for number, task_id in enumerate(TASKS):
            make.task(tx, clock(), task_id, f"{number:064x}")
    for _ in range(60):
        clock.ahead(minutes=1)
        with store.transaction() as tx:
            for doing in hand.draw.choices(hand.doings, k=hand.draw.randrange(1, 4)):
                doing(tx)
        with store.reading() as tx:
            for task in tx.tasks.list():
                assert (task["match_counts"] or {}) == tx.matches.tally(task["task_id"])


def test_an_undone_transaction_leaves_the_numbers(store: Store, clock: Clock) -> None:
    with store.transaction() as tx:
        make.task(tx, clock())
        tx.matches.add([make.match(clock(), "a")])
    with pytest.raises(RuntimeError), store.transaction() as tx:
        tx.matches.add([make.match(clock(), "b")])
        raise RuntimeError
    with store.reading() as tx:
        assert tx.tasks.get("task-1")["match_counts"] == {"actionable": {"none": 1}}  # type: ignore[index]
