"""What happens to a worker: faults, commands of dead connections, and reapers.

A cut may come at any moment of a command: the server executed it and the reply is lost, or it is
still in the air and may be executed later, or it is gone. A restart of the server cuts everybody,
keeps the data and ends what was in the air.

Reapers are processes of their own here. A reaper that is slow is one whose next action comes late,
so a fence or reclaim that was sent on a connection which is now dead needs no case of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.model import scripts
from tests.model.rules import Rules
from tests.model.state import (
    DOWN,
    FENCED,
    FINISHED,
    HAND_BACK,
    MESSAGES,
    OPEN,
    RIPE,
    WATCHING,
    WORKERS,
    Command,
    Server,
    State,
    Watch,
    Worker,
    fresh_claim,
    swap,
    with_worker,
)
from tests.model.worker import FAULT, IDLE, STEP, Action, opened, removed, sent_open


def aloft(state: State, command: Command) -> State:
    """The state with one more command in the air."""
    return state._replace(air=tuple(sorted((*state.air, command))))


def cut_off(rules: Rules, state: State, index: int) -> Iterator[tuple[str, State]]:
    """Every way in which a worker's connection can break at this moment."""
    worker = state.workers[index]
    wire = worker.wire
    retry = None
    if wire and not rules.claim_is_not_retried and wire.gen == worker.gen:
        retry = Command("retry", index, worker.gen, worker.epoch)
    down = with_worker(state, index, link=DOWN, wire=retry, back=())
    yield "", down
    if wire is not None and wire.kind == "claim":
        yield ", its claim in the air", aloft(down, wire)
    for entry in worker.book:
        if entry.state == FINISHED:
            command = Command("ack", index, entry.gen, entry.claim, entry.message)
            yield ", its ack in the air", aloft(down, command)
            yield ", the answer to its ack lost", removed(rules, down, command)
    if worker.link == OPEN and wire is None:
        command = sent_open(state, index)
        down = with_worker(down, index, opened=True)
        yield ", its open in the air", aloft(down, command)
        yield ", its open lost", down
        done = opened(rules, down, command)
        if done is not None:
            yield ", the answer to its open lost", done
    elif worker.link == HAND_BACK:
        claim, message = worker.back[0]
        command = Command("back", index, worker.gen, claim, message)
        yield ", its hand back in the air", aloft(down, command)


def faults(rules: Rules, state: State) -> Iterator[Action]:
    """Cuts, crashes, freezes and restarts, as many as are left, until all messages are done."""
    left = state.left
    if len(state.server.done) == len(state.runner):
        return
    for index, worker in enumerate(state.workers):
        if worker.alive:
            yield from mishaps(rules, state, index)
    if left.restarts and state.server.up:
        less = left._replace(restarts=left.restarts - 1)
        for after in stopped(rules, state):
            yield "the server stops", after._replace(left=less), FAULT


def mishaps(rules: Rules, state: State, index: int) -> Iterator[Action]:
    """One worker freezes, loses its connection or crashes."""
    left, worker, name = state.left, state.workers[index], WORKERS[index]
    if left.freezes and not worker.frozen:
        frozen = with_worker(state, index, frozen=True)
        less = left._replace(freezes=left.freezes - 1)
        yield f"{name} freezes", frozen._replace(left=less), FAULT
    if not left.cuts and not left.crashes:
        return
    ways = list(cut_off(rules, state, index)) if worker.link != DOWN else [("", state)]
    if left.cuts and worker.link != DOWN:
        less = left._replace(cuts=left.cuts - 1)
        for how, after in ways:
            yield f"{name}'s connection is cut{how}", after._replace(left=less), FAULT
    if left.crashes:
        gone = Worker(gen=worker.gen, alive=False, link=DOWN)
        less = left._replace(crashes=left.crashes - 1)
        runner = tuple(-1 if who == index else who for who in state.runner)
        for how, after in ways:
            crashed = after._replace(workers=swap(after.workers, index, gone))
            yield f"{name} crashes{how}", crashed._replace(left=less, runner=runner), FAULT


def stopped(rules: Rules, state: State) -> Iterator[State]:
    """The server stops, each worker's last command executed or not."""
    reapers = (None,) * len(state.reapers) if rules.outage_restarts_observation else state.reapers
    todo = [state]
    for index, worker in enumerate(state.workers):
        if worker.alive and worker.link != DOWN:
            todo = [after for before in todo for _, after in cut_off(rules, before, index)]
    for after in {each for each in todo if each.air == state.air}:
        server = after.server._replace(up=False)
        yield after._replace(server=server, air=(), reapers=reapers)


def late(rules: Rules, state: State) -> Iterator[Action]:
    """The server executes a command of a connection that is cut."""
    for command in state.air:
        name = WORKERS[command.worker]
        left = list(state.air)
        left.remove(command)
        after = state._replace(air=tuple(left))
        server = after.server
        if command.kind == "claim":
            if server.queue and scripts.accepts(rules, server, command):
                number = fresh_claim(state, command.worker)
                after = after._replace(server=scripts.claim(rules, server, command, number))
        elif command.kind == "open":
            after = opened(rules, after, command) or after
        else:
            after = removed(rules, after, command)
        yield f"{name}'s old {command.kind} reaches the server", after, STEP


def beats(state: State, worker: int, gen: int) -> bool:
    """Whether an id belongs to a worker that can renew it now."""
    owner = state.workers[worker]
    return owner.gen == gen and owner.alive and not owner.frozen and owner.link != DOWN


def observed(rules: Rules, state: State, reaper: int) -> Iterator[Action]:
    """A reaper looks at an id, and a whole lease passes without a beat."""
    watch, name = state.reapers[reaper], "a reaper"
    if watch is None:
        for found in state.server.hashes:
            if found.listed and state.server.up:
                kind = IDLE if beats(state, found.worker, found.gen) else STEP
                new = Watch(found.worker, found.gen)
                label = f"{name} looks at {WORKERS[found.worker]}'s beat"
                yield label, state._replace(reapers=swap(state.reapers, reaper, new)), kind
    elif watch.stage == WATCHING and not beats(state, watch.worker, watch.gen):
        ripe = watch._replace(stage=RIPE)
        after = state._replace(reapers=swap(state.reapers, reaper, ripe))
        owner = state.workers[watch.worker]
        if state.server.up and owner.alive and owner.gen == watch.gen:
            after = with_worker(after, watch.worker, lapsed=True)
        yield "a lease passes without that beat", after, STEP


def reaped(rules: Rules, state: State, reaper: int) -> Iterator[Action]:
    """A reaper fences an id, takes its messages one by one, and forgets it."""
    watch, name = state.reapers[reaper], "a reaper"
    if watch is None or watch.stage == WATCHING:
        return
    whose = WORKERS[watch.worker]
    idle = state._replace(reapers=swap(state.reapers, reaper, None))
    found = scripts.find(state.server, watch.worker, watch.gen)
    compares = rules.fence_compares_beat if watch.stage == RIPE else rules.reclaim_compares_beat
    if found is None or (compares and not watch.current):
        yield f"{name} finds that {whose} has beaten", idle, STEP
    elif watch.stage == RIPE:
        server = scripts.fence(state.server, found) if rules.fence_before_reclaim else state.server
        reapers = swap(state.reapers, reaper, watch._replace(stage=FENCED))
        yield f"{name} fences {whose}", state._replace(server=server, reapers=reapers), STEP
    elif found.entries:
        claim, message = found.entries[-1]
        command = Command("back", watch.worker, watch.gen, claim, message)
        moved = scripts.hand_back(rules, state.server, command) or state.server
        yield f"{name} reclaims {MESSAGES[message]}", state._replace(server=moved), STEP
    else:
        without = scripts.forget(rules, state.server, found)
        if without is None:
            yield f"{name} has done", idle, STEP
        else:
            yield f"{name} forgets that id of {whose}", unlisted(state, without, watch), STEP


def unlisted(state: State, server: Server, watch: Watch) -> State:
    """A hash is forgotten: nobody observes it any more."""
    key = (watch.worker, watch.gen)
    reapers = tuple(
        None if other and (other.worker, other.gen) == key else other for other in state.reapers
    )
    return state._replace(server=server, reapers=reapers)


def swept(rules: Rules, state: State) -> Iterator[Action]:
    """A sweep takes hashes without tags out of the owners (``owners_keep_open_hashes`` off)."""
    for found in state.server.hashes:
        if found.listed and found.epoch:
            without = scripts.forget(rules, state.server, found)
            if without is not None:
                label = f"{WORKERS[found.worker]} is taken out of the owners"
                yield label, state._replace(server=without), IDLE


def actions(rules: Rules, state: State) -> Iterator[Action]:
    """Everything that happens without a worker's doing."""
    yield from faults(rules, state)
    if not state.server.up:
        up = state._replace(server=state.server._replace(up=True))
        yield "the server starts", up, STEP
        if not rules.outage_restarts_observation:
            for reaper in range(len(state.reapers)):
                yield from observed(rules, state, reaper)
        return
    yield from late(rules, state)
    yield from swept(rules, state)
    for reaper in range(len(state.reapers)):
        yield from observed(rules, state, reaper)
        yield from reaped(rules, state, reaper)
