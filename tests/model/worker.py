"""What a worker does by itself: connect, open, claim, start, finish, ack, renew.

After every reconnect, in this order: send the pending acks; open, which gives a new epoch and all
tags in flight under the id; hand back the tags that the Book does not know; claim. Meanwhile tasks
go on: what is held may start and what runs may finish, also while the connection is down.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.model import scripts
from tests.model.rules import Rules
from tests.model.state import (
    DOWN,
    FINISHED,
    HAND_BACK,
    HELD,
    LOOSE,
    MESSAGES,
    OPEN,
    READY,
    RUNNING,
    SEND_ACKS,
    WATCHING,
    WITHDRAWN,
    WORKERS,
    Command,
    Entry,
    State,
    Worker,
    fresh_claim,
    fresh_epoch,
    fresh_gen,
    swap,
    with_worker,
)

#: Kinds of actions: one that changes something for good, one that a healthy system may repeat for
#: ever, and one that uses up a fault.
STEP, IDLE, FAULT = "step", "idle", "fault"

Action = tuple[str, State, str]


def beaten(rules: Rules, state: State, index: int, gen: int) -> State:
    """The beat of an id was incremented: observations of it are out of date."""
    if not any(watch and (watch.worker, watch.gen) == (index, gen) for watch in state.reapers):
        return state
    compared = rules.fence_compares_beat and rules.reclaim_compares_beat
    reapers = []
    for watch in state.reapers:
        if watch is None or (watch.worker, watch.gen) != (index, gen):
            reapers.append(watch)
        elif watch.stage == WATCHING or compared:
            reapers.append(None)
        else:
            reapers.append(watch._replace(current=False))
    return state._replace(reapers=tuple(reapers))


def replaced(book: tuple[Entry, ...], old: Entry, state: str | None) -> tuple[Entry, ...]:
    """The Book with one entry in another state, or without it."""
    others = [entry for entry in book if entry is not old]
    if state is not None:
        others.append(old._replace(state=state))
    return tuple(sorted(others))


def dropped(rules: Rules, book: tuple[Entry, ...], gen: int, tags: set[int]) -> tuple[Entry, ...]:
    """The Book without what had not started and is not among the tags of the id."""
    if not rules.unstarted_are_dropped:
        return book
    left = []
    for entry in book:
        ours = entry.gen == gen and scripts.tag(rules, entry.claim, entry.message) in tags
        if entry.state != HELD or ours:
            left.append(entry)
        elif not rules.begin_asks_the_book:
            left.append(entry._replace(state=WITHDRAWN))
    return tuple(sorted(left))


def forgiven(state: State, index: int, kept: set[int] | frozenset[int] = frozenset()) -> State:
    """A lapsed worker learns what it lost: others may run those messages beside it."""
    if not state.workers[index].lapsed:
        return state
    runner = tuple(
        -1 if who == index and message not in kept else who
        for message, who in enumerate(state.runner)
    )
    return with_worker(state._replace(runner=runner), index, lapsed=False)


def learn(rules: Rules, state: State, index: int) -> State:
    """The worker is told that its id is fenced: it takes a new id and opens that."""
    if not rules.fenced_id_is_never_reused:
        return with_worker(state, index, link=OPEN, back=())
    state = forgiven(state, index)
    return with_worker(
        state,
        index,
        gen=fresh_gen(state, index),
        link=OPEN,
        epoch=0,
        opened=False,
        back=(),
        book=dropped(rules, state.workers[index].book, 0, set()),
    )


def told(rules: Rules, state: State, index: int, epoch: int) -> State:
    """The reply of an open: all tags in flight under the id."""
    worker = state.workers[index]
    found = scripts.find(state.server, index, worker.gen)
    entries = found.entries if found else ()
    knows = {HELD, RUNNING, FINISHED} if rules.pending_acks_are_known else {HELD, RUNNING}
    known = {
        scripts.tag(rules, entry.claim, entry.message)
        for entry in worker.book
        if entry.gen == worker.gen and entry.state in knows
    }
    back: tuple[tuple[int, int], ...] = ()
    if not rules.known_tags_stay:
        back = entries
    elif rules.unknown_tags_go_back:
        back = tuple(entry for entry in entries if scripts.tag(rules, *entry) not in known)
    tags = {scripts.tag(rules, *entry) for entry in entries}
    state = forgiven(state, index, {message for _, message in entries})
    return with_worker(
        state,
        index,
        link=HAND_BACK if back else READY,
        epoch=epoch,
        opened=True,
        back=back,
        book=dropped(rules, worker.book, worker.gen, tags),
    )


def sent_open(state: State, index: int) -> Command:
    """The open that a worker sends next."""
    worker = state.workers[index]
    return Command("open", index, worker.gen, fresh_epoch(state, index), int(not worker.opened))


def opened(rules: Rules, state: State, command: Command) -> State | None:
    """The server executes an open."""
    server = scripts.open_(rules, state.server, command)
    if server is None:
        return None
    state = state._replace(server=server)
    return beaten(rules, state, command.worker, command.gen) if rules.open_beats else state


def removed(rules: Rules, state: State, command: Command) -> State:
    """The server executes an ack or a hand back, which must not meet another claim's tag."""
    found = scripts.find(state.server, command.worker, command.gen)
    entry = scripts.field(rules, found, command)
    wrong = state.wrong
    if entry is not None and entry[0] != command.number:
        wrong = f"{command.kind} of an earlier claim removed the tag of a later one"
    script = scripts.ack if command.kind == "ack" else scripts.hand_back
    server = script(rules, state.server, command)
    return state if server is None else state._replace(server=server, wrong=wrong)


def started(state: State, index: int, entry: Entry) -> State:
    """The pool gets the task."""
    worker = state.workers[index]
    book = replaced(worker.book, entry, RUNNING)
    runner = state.runner[entry.message]
    if runner < 0 or state.workers[runner].lapsed:
        state = state._replace(runner=swap(state.runner, entry.message, index))
    elif not worker.lapsed:
        wrong = f"{MESSAGES[entry.message]} is started again, though its worker never went away"
        state = state._replace(wrong=wrong)
    return with_worker(state, index, book=book)


def tasks(rules: Rules, state: State, index: int) -> Iterator[Action]:
    """Tasks start and finish, whatever the connection does."""
    worker = state.workers[index]
    name = WORKERS[index]
    for entry in worker.book:
        message = MESSAGES[entry.message]
        if entry.state == LOOSE:
            book = replaced(worker.book, entry, HELD)
            yield f"{name} enters {message} in the Book", with_worker(state, index, book=book), STEP
        elif entry.state in {HELD, WITHDRAWN}:
            yield f"{name} starts {message}", started(state, index, entry), STEP
        elif entry.state == RUNNING:
            book = replaced(worker.book, entry, FINISHED)
            yield f"{name} finishes {message}", with_worker(state, index, book=book), STEP


def received(rules: Rules, state: State, index: int, reply: Command) -> State:
    """The worker reads the reply of its claim."""
    worker = state.workers[index]
    state_of = HELD if rules.book_before_delivery else LOOSE
    entry = Entry(reply.gen, reply.number, reply.argument, state_of)
    book = tuple(sorted((*worker.book, entry)))
    if reply.gen != worker.gen and state_of == HELD:
        book = dropped(rules, book, 0, set())
    if not rules.claim_is_one_script:
        field = (reply.number, reply.argument)
        state = state._replace(server=scripts.stored(state.server, index, reply.gen, field))
    return with_worker(state, index, wire=None, book=book)


def refused(rules: Rules, state: State, index: int, command: Command) -> State:
    """The worker reads that its claim was refused."""
    worker = state.workers[index]
    state = with_worker(state, index, wire=None)
    if command.gen != worker.gen or worker.link != READY:
        return state
    if rules.refused_claim_opens_again:
        return with_worker(state, index, link=OPEN)
    return learn(rules, state, index)


def claims(rules: Rules, state: State, index: int) -> Iterator[Action]:
    """A claim is sent, executed and read; the server executes it frozen worker or not."""
    worker, name = state.workers[index], WORKERS[index]
    wire = worker.wire
    if wire is None:
        if worker.link == READY and not worker.frozen:
            command = Command("claim", index, worker.gen, worker.epoch)
            kind = STEP if state.server.queue else IDLE
            yield f"{name} sends a claim", with_worker(state, index, wire=command), kind
    elif wire.kind == "claim":
        if not scripts.accepts(rules, state.server, wire):
            if not worker.frozen:
                yield f"{name}'s claim is refused", refused(rules, state, index, wire), STEP
        elif not state.server.queue:
            yield f"{name}'s claim finds nothing", with_worker(state, index, wire=None), STEP
        else:
            number, message = fresh_claim(state, index), state.server.queue[0]
            reply = Command("reply", index, wire.gen, number, message)
            after = state._replace(server=scripts.claim(rules, state.server, wire, number))
            label = f"the server gives {MESSAGES[message]} to {name}'s claim"
            yield label, with_worker(after, index, wire=reply), STEP
    elif wire.kind == "reply" and not worker.frozen:
        yield f"{name} reads the reply", received(rules, state, index, wire), STEP
        if not rules.reply_is_always_read:
            label = f"{name} closes the channel without reading the reply"
            yield label, with_worker(state, index, wire=None), STEP


def acks(rules: Rules, state: State, index: int) -> Iterator[Action]:
    """A pending ack is sent and answered."""
    worker = state.workers[index]
    for entry in worker.book:
        if entry.state == FINISHED:
            command = Command("ack", index, entry.gen, entry.claim, entry.message)
            after = removed(rules, state, command)
            after = with_worker(after, index, book=replaced(worker.book, entry, None))
            yield f"{WORKERS[index]} acks {MESSAGES[entry.message]}", after, STEP


def procedure(rules: Rules, state: State, index: int) -> Iterator[Action]:
    """The reconnect procedure, one step after the other, and the renewal beside it."""
    worker, name = state.workers[index], WORKERS[index]
    pending = any(entry.state == FINISHED for entry in worker.book)
    if worker.link == DOWN:
        if worker.wire is not None:
            again = worker.wire._replace(kind="claim")
            after = with_worker(state, index, link=READY, wire=again)
            yield f"{name} reconnects and repeats its claim", after, STEP
        else:
            link = SEND_ACKS if pending and rules.acks_before_open else OPEN
            yield f"{name} reconnects", with_worker(state, index, link=link), STEP
        return
    if worker.link == SEND_ACKS and not pending:
        yield f"{name} has sent its acks", with_worker(state, index, link=OPEN), STEP
    elif worker.link == OPEN and worker.wire is None:
        command = sent_open(state, index)
        done = opened(rules, state, command)
        if done is None:
            yield f"{name}'s open is refused: it takes a new id", learn(rules, state, index), STEP
        else:
            yield f"{name} opens", told(rules, done, index, command.number), STEP
    elif worker.link == HAND_BACK:
        claim, message = worker.back[0]
        after = removed(rules, state, Command("back", index, worker.gen, claim, message))
        link = HAND_BACK if worker.back[1:] else READY
        after = with_worker(after, index, link=link, back=worker.back[1:])
        yield f"{name} hands {MESSAGES[message]} back", after, STEP
    if worker.epoch:
        server = scripts.renew(rules, state.server, index, worker.gen)
        if server is not None:
            after = beaten(rules, state._replace(server=server), index, worker.gen)
            yield f"{name} renews", with_worker(after, index, lapsed=False), IDLE
        elif rules.fenced_id_is_never_reused or worker.link == READY:
            yield f"{name}'s renewal is refused: lease lost", learn(rules, state, index), STEP


def actions(rules: Rules, state: State, index: int) -> Iterator[Action]:
    """Everything that a worker may do next, and the server with its claim."""
    worker, name = state.workers[index], WORKERS[index]
    if not worker.alive:
        new = Worker(gen=fresh_gen(state, index), link=DOWN)
        yield f"{name} is started again", with_worker(state, index, **new._asdict()), STEP
        return
    up = worker.link != DOWN
    if up:
        yield from claims(rules, state, index)
    if worker.frozen:
        yield f"{name} resumes", with_worker(state, index, frozen=False), STEP
        return
    yield from tasks(rules, state, index)
    if up:
        yield from acks(rules, state, index)
    if state.server.up:
        yield from procedure(rules, state, index)
