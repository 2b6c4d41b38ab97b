"""The protocol keeps its promises in every state, and no rule of it is there for nothing.

``NODEKIT_MODEL=full`` explores the larger configurations too, which takes minutes.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import pytest

from tests.model.protocol import Result, explore
from tests.model.rules import ALL, NAMES, Rules
from tests.model.state import Left, State, initial


class Size(NamedTuple):
    """A configuration, small enough to be explored."""

    left: Left
    messages: int = 1
    workers: int = 2
    reapers: int = 2

    def __str__(self) -> str:
        faults = {kind: count for kind, count in self.left._asdict().items() if count}
        size = {"messages": self.messages, "workers": self.workers, "reapers": self.reapers}
        return " ".join(f"{name}={count}" for name, count in {**size, **faults}.items())

    def start(self) -> State:
        """The first state."""
        return initial(self.messages, self.left, workers=self.workers, reapers=self.reapers)


CUT, CRASH = Size(Left(cuts=1), reapers=1), Size(Left(crashes=1), reapers=1)
FREEZE, RESTART = Size(Left(freezes=1), reapers=1), Size(Left(restarts=1), reapers=1)
CUTS_ALONE = Size(Left(cuts=2), workers=1, reapers=1)

SMALL = [
    Size(Left(cuts=1)),
    Size(Left(crashes=1)),
    Size(Left(freezes=1)),
    Size(Left(restarts=1)),
    Size(Left(freezes=1), messages=2, reapers=1),
    CUTS_ALONE,
    Size(Left(cuts=1, crashes=1, restarts=1), workers=1, reapers=1),
    Size(Left(cuts=1, freezes=1), reapers=1),
]
LARGE = [
    Size(Left(cuts=2, freezes=1), workers=1, reapers=1),
    Size(Left(cuts=1, crashes=1), reapers=1),
    Size(Left(cuts=2), reapers=1),
    Size(Left(freezes=1, restarts=1), reapers=1),
    Size(Left(cuts=1, restarts=1), reapers=1),
    Size(Left(cuts=1), messages=2),
    Size(Left(crashes=1), messages=2),
    Size(Left(restarts=1), messages=2),
    Size(Left(cuts=1, crashes=1)),
    Size(Left(cuts=1, freezes=1)),
]

SIZES = [*SMALL, *(LARGE if os.environ.get("NODEKIT_MODEL") == "full" else ())]

#: Where the shortest violation is found when a rule is off.
NEEDED = {
    "claim_is_one_script": CUT,
    "claim_compares_epoch": CUT,
    "claim_is_not_retried": CUT,
    "reply_is_always_read": CUT,
    "book_before_delivery": CUT,
    "tags_are_per_claim": CUTS_ALONE,
    "hand_back_checks_flight": CUTS_ALONE,
    "pending_acks_are_known": CUT,
    "unknown_tags_go_back": CUT,
    "known_tags_stay": CUT,
    "unstarted_are_dropped": FREEZE,
    "begin_asks_the_book": FREEZE,
    "open_beats": CUT,
    "refused_claim_opens_again": CUTS_ALONE,
    "renewal_needs_epoch": FREEZE,
    "fence_before_reclaim": FREEZE,
    "fence_compares_beat": FREEZE,
    "fenced_id_is_never_reused": CUTS_ALONE,
    "outage_restarts_observation": RESTART,
    "owners_keep_open_hashes": CRASH,
}

#: Rules that no property needs as long as all others are on.
COVERED = ("acks_before_open", "reclaim_compares_beat")


def explored(size: Size, rules: Rules = ALL) -> Result:
    """Explore a configuration and say how large it was."""
    result = explore(size.start(), rules)
    print(f"{size}: {result.states} states, {result.transitions} transitions")
    print(f"{result.depth} actions deep, {result.seconds:.1f} s\n{result}")
    return result


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_protocol_violates_no_property_in_any_state(size: Size) -> None:
    assert not explored(size).violation


@pytest.mark.parametrize("rule", NEEDED)
def test_without_one_rule_a_property_is_violated(rule: str) -> None:
    result = explored(NEEDED[rule], ALL.without(rule))

    assert result.violation
    assert result.trace


@pytest.mark.parametrize("rule", COVERED)
@pytest.mark.parametrize("size", [CUT, CRASH, FREEZE, RESTART, CUTS_ALONE], ids=str)
def test_without_a_rule_that_others_cover_no_property_is_violated(rule: str, size: Size) -> None:
    assert not explored(size, ALL.without(rule)).violation


@pytest.mark.parametrize("second", ["reclaim_compares_beat", "open_beats"])
def test_the_beat_is_what_saves_an_id_that_is_opened_again_after_a_fence(second: str) -> None:
    reused = ALL.without("fenced_id_is_never_reused")

    assert not explored(FREEZE, reused).violation
    assert explored(FREEZE, reused.without(second)).violation


def test_every_rule_is_switched_off_by_some_test() -> None:
    assert sorted([*NEEDED, *COVERED]) == sorted(NAMES)


def test_an_exploration_that_grows_too_large_is_given_up() -> None:
    with pytest.raises(RuntimeError, match="more than 100 states"):
        explore(CUT.start(), most=100)
