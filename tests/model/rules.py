"""The protections of the protocol, each of which can be switched off.

A rule is on in the protocol that the transport implements. Switching one off gives the protocol as
somebody would write it who had not thought of that rule; what then goes wrong is the reason why
the rule exists.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What the scripts, the workers and the reapers promise each other."""

    #: A claim takes a message off its queue and writes it into the in-flight hash in one script.
    claim_is_one_script: bool = True
    #: A claim is refused (``NKFENCED``) unless ``#`` equals the epoch of the claim's connection.
    claim_compares_epoch: bool = True
    #: A claim whose reply did not come is never sent again on the next connection.
    claim_is_not_retried: bool = True
    #: The reply of an outstanding claim is read, also when the channel is closed meanwhile.
    reply_is_always_read: bool = True
    #: All messages of a reply are entered in the Book in the step that reads it, not when each of
    #: them is delivered.
    book_before_delivery: bool = True
    #: Tags are per claim, not the message's own delivery tag.
    tags_are_per_claim: bool = True
    #: A hand back moves a message only if its tag is still in flight.
    hand_back_checks_flight: bool = True
    #: Pending acks are sent, and have been answered, before the connection is opened.
    acks_before_open: bool = True
    #: A tag whose ack is pending counts as known to the Book.
    pending_acks_are_known: bool = True
    #: After an open the tags that the Book does not know are handed back.
    unknown_tags_go_back: bool = True
    #: After an open nothing but the unknown tags goes back.
    known_tags_stay: bool = True
    #: A worker that lost its lease drops what it had not started.
    unstarted_are_dropped: bool = True
    #: A task starts only if the Book still holds its tag.
    begin_asks_the_book: bool = True
    #: An open increments the beat, as a renewal does.
    open_beats: bool = True
    #: A refused claim means: open again. Only a refused open or renewal means: fenced.
    refused_claim_opens_again: bool = True
    #: A renewal is refused where ``#`` is absent.
    renewal_needs_epoch: bool = True
    #: An id that was fenced is never opened again; its worker takes a new one.
    fenced_id_is_never_reused: bool = True
    #: A reaper deletes ``#`` before it takes the messages.
    fence_before_reclaim: bool = True
    #: A fence is refused unless the beat is the one that the reaper saw for a whole lease.
    fence_compares_beat: bool = True
    #: A reclaim is refused unless the beat is the one that the reaper saw for a whole lease.
    reclaim_compares_beat: bool = True
    #: A reaper begins its observation anew after a reconnect or a failover.
    outage_restarts_observation: bool = True
    #: A worker stays in ``nk:owners`` while ``#`` is there, also with nothing in flight.
    owners_keep_open_hashes: bool = True

    def without(self, *names: str) -> Rules:
        """The same rules with the named ones switched off."""
        return replace(self, **dict.fromkeys(names, False))


#: The name of every rule.
NAMES = tuple(field.name for field in fields(Rules))

#: The protocol.
ALL = Rules()
