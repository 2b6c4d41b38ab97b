"""What the model remembers: the server, the workers, the reapers and commands still in the air.

Everything is a tuple, so a state is its own key. Three abstractions keep the number of states
finite; none of them hides an interleaving:

* Numbers that the protocol only compares for equality (epochs, tags, ids) are reused as soon as
  nothing refers to them any more. See :func:`unused`.
* The beat counter is not stored. Each observation says whether the beat that it saw is still the
  stored one, which is all that a compare-and-set asks.
* Time is not counted. "A whole lease passes" is an action that is possible while a worker does not
  beat (it is gone, frozen, or its connection is down), because a worker that does beats more often
  than once in a lease.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

Item = TypeVar("Item")

#: The names of workers and messages in labels.
WORKERS = "AB"
MESSAGES = ("m1", "m2")

#: States of a message in a worker. ``LOOSE``: read from the reply, not in the Book (only with
#: ``book_before_delivery`` off). ``WITHDRAWN``: dropped from the Book, still in the pool's queue.
#: ``FINISHED``: has run, its ack is pending.
LOOSE, HELD, RUNNING, FINISHED, WITHDRAWN = "loose", "held", "running", "finished", "withdrawn"

#: States of a worker's connection, in the order of the reconnect procedure.
DOWN, SEND_ACKS, OPEN, HAND_BACK, READY = "down", "send acks", "open", "hand back", "ready"

#: States of an observation.
WATCHING, RIPE, FENCED = "watching", "ripe", "fenced"


class Hash(NamedTuple):
    """One in-flight hash: of one worker id, for the queue."""

    worker: int
    gen: int
    #: Field ``#``; 0 is an absent field.
    epoch: int
    #: Whether ``nk:owners`` lists the hash.
    listed: bool
    #: (claim, message) for each tag.
    entries: tuple[tuple[int, int], ...]


class Server(NamedTuple):
    """The data, which a restart keeps."""

    up: bool
    queue: tuple[int, ...]
    hashes: tuple[Hash, ...]
    done: tuple[int, ...]


class Entry(NamedTuple):
    """One message in a worker: the id and claim that it came with, and how far it is."""

    gen: int
    claim: int
    message: int
    state: str


class Command(NamedTuple):
    """A command that was sent. ``kind`` is claim, reply, retry, ack, open or back."""

    kind: str
    worker: int
    gen: int
    #: Epoch of a claim or an open, number of the claim otherwise.
    number: int
    #: The message of a reply, an ack or a hand back; 1 for a first open.
    argument: int = 0


class Worker(NamedTuple):
    """One worker process and its Book."""

    gen: int = 1
    alive: bool = True
    frozen: bool = False
    link: str = OPEN
    #: Epoch of the last successful open under this id, else 0.
    epoch: int = 0
    #: Whether an open was sent under this id, answered or not.
    opened: bool = False
    #: The outstanding claim, or its reply that was not read yet.
    wire: Command | None = None
    book: tuple[Entry, ...] = ()
    #: (claim, message) of the tags that an open returned and that are to be handed back.
    back: tuple[tuple[int, int], ...] = ()
    #: Ghost: a whole lease passed without a beat, alone, and the worker has not come back since.
    lapsed: bool = False


class Watch(NamedTuple):
    """A reaper's observation of one worker id."""

    worker: int
    gen: int
    stage: str = WATCHING
    #: Whether the stored beat is still the one that was seen.
    current: bool = True


class Left(NamedTuple):
    """How many faults of each kind may still happen."""

    cuts: int = 0
    crashes: int = 0
    freezes: int = 0
    restarts: int = 0


class State(NamedTuple):
    """One state of the whole system."""

    server: Server
    workers: tuple[Worker, ...]
    reapers: tuple[Watch | None, ...]
    #: Commands of connections that are cut, which the server may still execute.
    air: tuple[Command, ...]
    #: Ghost, for each message: the worker whose run of it is not to be repeated, or -1.
    runner: tuple[int, ...]
    left: Left
    #: What an action did that it must not do, else empty.
    wrong: str = ""


def initial(messages: int, left: Left, *, workers: int = 2, reapers: int = 2) -> State:
    """All messages in the queue, all workers about to open."""
    server = Server(True, tuple(range(messages)), (), ())
    nothing = (-1,) * messages
    return State(server, (Worker(),) * workers, (None,) * reapers, (), nothing, left)


def swap(items: tuple[Item, ...], index: int, item: Item) -> tuple[Item, ...]:
    """The tuple with one item replaced."""
    return (*items[:index], item, *items[index + 1 :])


def with_worker(state: State, index: int, **changes: Any) -> State:
    """The state with some fields of one worker replaced."""
    worker = state.workers[index]._replace(**changes)
    return state._replace(workers=swap(state.workers, index, worker))


def unused(numbers: Iterable[int]) -> int:
    """The smallest positive number that nothing refers to: as good as one never used before."""
    taken, number = set(numbers), 1
    while number in taken:
        number += 1
    return number


def fresh_gen(state: State, index: int) -> int:
    """An id for a worker that nothing on the server, in the air or in a reaper refers to."""
    worker = state.workers[index]
    taken = [worker.gen, *(entry.gen for entry in worker.book)]
    taken += [h.gen for h in state.server.hashes if h.worker == index]
    taken += [command.gen for command in state.air if command.worker == index]
    taken += [watch.gen for watch in state.reapers if watch and watch.worker == index]
    if worker.wire:
        taken.append(worker.wire.gen)
    return unused(taken)


def fresh_epoch(state: State, index: int) -> int:
    """An epoch for a worker's next open."""
    worker = state.workers[index]
    taken = [worker.epoch, *(h.epoch for h in state.server.hashes if h.worker == index)]
    taken += [
        command.number
        for command in (*state.air, *((worker.wire,) if worker.wire else ()))
        if command.worker == index and command.kind in {"claim", "open", "retry"}
    ]
    return unused(taken)


def fresh_claim(state: State, index: int) -> int:
    """A number for a worker's next claim."""
    worker = state.workers[index]
    taken = [entry.claim for entry in worker.book]
    taken += [claim for claim, _ in worker.back]
    for h in state.server.hashes:
        if h.worker == index:
            taken += [claim for claim, _ in h.entries]
    taken += [
        command.number
        for command in (*state.air, *((worker.wire,) if worker.wire else ()))
        if command.worker == index and command.kind in {"ack", "back", "reply"}
    ]
    return unused(taken)


def rank(worker: Worker) -> tuple[object, ...]:
    """Something to order workers by, whatever their names."""
    wire = worker.wire and (worker.wire.kind, worker.wire.gen, worker.wire.number)
    return (*worker[:6], worker.lapsed, worker.book, worker.back, wire or ())


def renamed(state: State) -> State:
    """The state with the names of the two workers exchanged."""
    server = state.server
    hashes = tuple(sorted(h._replace(worker=1 - h.worker) for h in server.hashes))
    workers = tuple(
        each._replace(wire=each.wire._replace(worker=1 - each.wire.worker)) if each.wire else each
        for each in reversed(state.workers)
    )
    return state._replace(
        server=server._replace(hashes=hashes),
        workers=workers,
        reapers=tuple(
            sorted(
                (watch and watch._replace(worker=1 - watch.worker) for watch in state.reapers),
                key=lambda watch: watch or (),
            )
        ),
        air=tuple(sorted(command._replace(worker=1 - command.worker) for command in state.air)),
        runner=tuple(who if who < 0 else 1 - who for who in state.runner),
    )


def canonical(state: State) -> State:
    """One of the states that differ only in the names of workers and reapers."""
    ordered = tuple(sorted(state.reapers, key=lambda watch: watch or ()))
    if ordered != state.reapers:
        state = state._replace(reapers=ordered)
    if len(state.workers) != 2:
        return state
    one, two = map(rank, state.workers)
    if one < two:
        return state
    other = renamed(state)
    if one > two:
        return other
    return min(
        state, other, key=lambda each: (each.server, each.air, each.runner, str(each.reapers))
    )
