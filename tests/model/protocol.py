"""The protocol of the Redis transport as a model that is explored state by state.

One queue with a few messages, workers that claim, run and ack them, reapers that take the messages
of dead workers back, and faults: connections that are cut in the middle of a command, crashes,
processes that are frozen and go on later, and a server that stops and comes back with its data.
:func:`explore` visits every state that any order of these can lead to.

``rules``
    the protections, each with a switch;
``state``
    what is remembered, and how it is kept finite;
``scripts``
    what the server does in one step, to be written in Lua;
``worker``
    the reconnect procedure, the Book and the life of a task;
``world``
    faults, late commands, reapers.

Properties:

1. No message is lost: it is in the queue, in an in-flight hash, or done.
2. No message is in two of these places, or twice in one.
3. A message that a worker has started is not started a second time, in that or another worker,
   unless the first worker crashed or *lapsed*: for a whole lease it was frozen, or cut off while
   the server was up and a reaper saw it. A lapsed worker that does not know it yet may itself
   start what others have started meanwhile. It stops being lapsed when a renewal or an open is
   accepted: from then on the tags that it holds are its own again, and nobody takes them. An
   accepted claim does not end it, since a claim does not increment the beat.
4. An ack or a hand back of one claim never removes the tag of another.
5. No message is stranded: when no fault comes any more and nothing is left to do but to renew and
   to claim from an empty queue, every message is done, and no hash of a former id is left.

What the switches show (``test_protocol`` runs it):

* Each rule but two is needed by itself.
* ``reclaim_compares_beat`` is not: the fence compares the beat, what is fenced stays fenced, and
  after that nothing increments the beat. It would be needed if a fenced id could be opened again,
  and even then only an open that increments the beat makes it effective.
* ``acks_before_open`` is not, given ``pending_acks_are_known``. It only makes it likelier that the
  ack of a lapsed worker comes before the reclaim. It is no substitute: a task may finish between
  the acks and the open.

What the model leaves out: more than one queue or hash for each worker; separate connections for
claims, acks and renewals, which are up and down together here; claims of several messages; hand
backs other than those after an open; a server that loses data; the crash count; ETA.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.model import worker, world
from tests.model.rules import ALL, Rules
from tests.model.state import MESSAGES, WORKERS, State, canonical
from tests.model.worker import STEP, Action


class Result(NamedTuple):
    """What an exploration found."""

    states: int
    transitions: int
    depth: int
    seconds: float
    #: The violated property, and the actions that lead there; empty where nothing is violated.
    violation: str
    trace: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{number:3} {label}" for number, label in enumerate(self.trace, 1)]
        return "\n".join([*lines, f"  => {self.violation or 'no violation'}"])


def successors(rules: Rules, state: State) -> Iterator[Action]:
    """Every action that is possible in a state, the state after it, and its kind."""
    for index in range(len(state.workers)):
        yield from worker.actions(rules, state, index)
    yield from world.actions(rules, state)


def misplaced(state: State) -> str:
    """Properties 1 to 4, which hold in every state."""
    if state.wrong:
        return state.wrong
    server = state.server
    places = [*server.queue, *server.done]
    for found in server.hashes:
        places += [message for _, message in found.entries]
    for message in range(len(state.runner)):
        count = places.count(message)
        if count != 1:
            return f"{MESSAGES[message]} is in {count} places on the server"
    return ""


def stranded(state: State) -> str:
    """Property 5, which holds in every state where only healthy repetition is left."""
    for message in range(len(state.runner)):
        if message not in state.server.done:
            return f"{MESSAGES[message]} is stranded: nobody will ever run or reclaim it"
    for found in state.server.hashes:
        if found.gen != state.workers[found.worker].gen:
            return f"a hash of an old id of {WORKERS[found.worker]} stays for ever"
    return ""


@contextmanager
def uncollected() -> Iterator[None]:
    """Run without the garbage collector, which would look at every state again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def told_again(rules: Rules, start: State, path: list[State]) -> tuple[str, ...]:
    """The actions along a path of canonical states, with the names that they really have."""
    labels, state = [], start
    for wanted in path:
        label, state = next(
            (label, after)
            for label, after, _ in successors(rules, state)
            if canonical(after) == wanted
        )
        labels.append(label)
    return tuple(labels)


@uncollected()
def explore(start: State, rules: Rules = ALL, *, most: int | None = None) -> Result:
    """Visit every reachable state, breadth first, until a property is violated.

    States that differ only in the names of workers and reapers are visited once.

    Raises:
        RuntimeError: There are more than ``most`` states.
    """
    begun = time.monotonic()
    parents: dict[State, State | None] = {canonical(start): None}
    level, depth, transitions = list(parents), 0, 0

    def result(violation: str = "", state: State | None = None) -> Result:
        path: list[State] = []
        while state is not None:
            path.append(state)
            state = parents[state]
        trace = told_again(rules, start, path[-2::-1])
        seconds = time.monotonic() - begun
        return Result(len(parents), transitions, depth, seconds, violation, trace)

    while level:
        following = []
        for state in level:
            settled = not any(state.reapers)
            for _, raw, kind in successors(rules, state):
                transitions += 1
                settled = settled and kind != STEP
                after = canonical(raw)
                if after not in parents:
                    parents[after] = state
                    if violation := misplaced(after):
                        return result(violation, after)
                    following.append(after)
            if settled and (violation := stranded(state)):
                return result(violation, state)
        if most is not None and len(parents) > most:
            msg = f"more than {most} states, {depth} actions deep"
            raise RuntimeError(msg)
        level = following
        depth += bool(level)
    return result()
