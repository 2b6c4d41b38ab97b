"""The scripts that run on the server, one function for each; each is atomic.

The in-flight hash of a worker id holds the epoch ``#``, the beat ``~`` and one field for each tag.
``nk:owners`` lists the hashes of a queue. Nothing but these scripts moves a message:

========== =================== ============================ =======================================
script     arguments           refused                      otherwise
========== =================== ============================ =======================================
claim      epoch               ``#`` is not the epoch       message: queue to hash, under a new tag
open       epoch, first        not first and ``#`` absent   ``#`` = epoch, ``~`` + 1, add to
                                                            owners; returns all tags
renew                          ``#`` absent                 ``~`` + 1
ack        tag                                              tag: deleted, if there
hand back  tag                                              message: hash to front of queue, if the
                                                            tag is there
fence      beat                ``~`` is not the beat        ``#``: deleted
reclaim    beat, tag           ``~`` is not the beat        as hand back
forget                         ``#`` or a tag is there      hash deleted, out of owners
========== =================== ============================ =======================================

An open that is not an id's first is refused where ``#`` is absent, whatever the reason: fenced,
reclaimed and forgotten hashes look the same. An open counts as the first until one was *sent*.

A function returns the new :class:`~tests.model.state.Server`, or None where the script refuses or
finds nothing.
"""

from __future__ import annotations

from tests.model.rules import Rules
from tests.model.state import Command, Hash, Server


def find(server: Server, worker: int, gen: int) -> Hash | None:
    """The in-flight hash of a worker id."""
    for candidate in server.hashes:
        if candidate.worker == worker and candidate.gen == gen:
            return candidate
    return None


def put(server: Server, old: Hash | None, new: Hash | None) -> Server:
    """The server with a hash replaced, added or removed."""
    hashes = [h for h in server.hashes if h is not old]
    if new is not None:
        hashes.append(new)
    return server._replace(hashes=tuple(sorted(hashes)))


def tag(rules: Rules, claim: int, message: int) -> int:
    """The name under which a claim's message is in flight."""
    return claim if rules.tags_are_per_claim else message


def field(rules: Rules, found: Hash | None, command: Command) -> tuple[int, int] | None:
    """The field that an ack or a hand back names."""
    wanted = tag(rules, command.number, command.argument)
    for entry in found.entries if found else ():
        if tag(rules, *entry) == wanted:
            return entry
    return None


def accepts(rules: Rules, server: Server, command: Command) -> bool:
    """Whether the server accepts a claim: ``#`` equals its epoch."""
    found = find(server, command.worker, command.gen)
    if not rules.claim_compares_epoch:
        return True
    return found is not None and found.epoch == command.number


def claim(rules: Rules, server: Server, command: Command, number: int) -> Server:
    """Move the first message of the queue into the hash. The claim was accepted."""
    found = find(server, command.worker, command.gen)
    message, *rest = server.queue
    server = server._replace(queue=tuple(rest))
    if not rules.claim_is_one_script:
        return server
    old = found or Hash(command.worker, command.gen, 0, listed=False, entries=())
    return put(server, found, old._replace(entries=(*old.entries, (number, message))))


def stored(server: Server, worker: int, gen: int, entry: tuple[int, int]) -> Server:
    """Write a message into the hash after it was popped (``claim_is_one_script`` off)."""
    found = find(server, worker, gen)
    old = found or Hash(worker, gen, 0, listed=False, entries=())
    return put(server, found, old._replace(entries=(*old.entries, entry)))


def open_(rules: Rules, server: Server, command: Command) -> Server | None:
    """Set ``#`` and list the hash among the owners."""
    found = find(server, command.worker, command.gen)
    fenced = found is None or not found.epoch
    if fenced and not command.argument and rules.fenced_id_is_never_reused:
        return None
    entries = found.entries if found else ()
    new = Hash(command.worker, command.gen, command.number, listed=True, entries=entries)
    return put(server, found, new)


def renew(rules: Rules, server: Server, worker: int, gen: int) -> Server | None:
    """Increment the beat."""
    found = find(server, worker, gen)
    if found is not None and (found.epoch or not rules.renewal_needs_epoch):
        return server
    if rules.renewal_needs_epoch:
        return None
    return put(server, None, Hash(worker, gen, 0, listed=False, entries=()))


def ack(rules: Rules, server: Server, command: Command) -> Server | None:
    """Delete a tag: its message is done."""
    found = find(server, command.worker, command.gen)
    entry = field(rules, found, command)
    if found is None or entry is None:
        return None
    left = tuple(other for other in found.entries if other != entry)
    server = put(server, found, found._replace(entries=left))
    return server._replace(done=tuple(sorted((*server.done, entry[1]))))


def hand_back(rules: Rules, server: Server, command: Command) -> Server | None:
    """Move a message to the front of its queue."""
    found = find(server, command.worker, command.gen)
    entry = field(rules, found, command)
    if found is None or entry is None:
        if rules.hand_back_checks_flight:
            return None
        return server._replace(queue=(command.argument, *server.queue))
    left = tuple(other for other in found.entries if other != entry)
    server = put(server, found, found._replace(entries=left))
    return server._replace(queue=(entry[1], *server.queue))


def fence(server: Server, found: Hash) -> Server:
    """Delete ``#``. The beat was compared."""
    return put(server, found, found._replace(epoch=0))


def forget(rules: Rules, server: Server, found: Hash) -> Server | None:
    """Remove a hash without tags, and its entry in the owners."""
    if found.entries:
        return None
    if not found.epoch:
        return put(server, found, None)
    if rules.owners_keep_open_hashes or not found.listed:
        return None
    return put(server, found, found._replace(listed=False))
