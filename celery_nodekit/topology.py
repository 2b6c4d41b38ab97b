"""Nodes, their labels and queues, and the selectors that pick some of them.

A selector is a node's name, ``"all"``, a label (``"role=web"``), a label with a number of nodes to
choose (``"role=web:1"``), or a list of these. It is understood the same way in ``nodekit_routes``,
in cron entries and by :meth:`celery_nodekit.NodeKit.nodes`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_nodekit.config import NodeKitConfig
from celery_nodekit.exceptions import ConfigurationError, UnknownNodeError, did_you_mean

__all__ = ["ALL", "Node", "Selector", "Topology", "rendezvous"]

#: The selector of every node.
ALL = "all"

Selector = str | Sequence[str]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LABEL = re.compile(r"(?P<key>[^=:,\s]+)=(?P<value>[^=:,\s]*)(?::(?P<count>\d+))?")
_NODE_KEYS = frozenset({"labels", "queue", "crontab_queue"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One host of the deployment, under the name that the deployment gives it."""

    #: Stable name, unique in the topology.
    name: str
    #: Queue of tasks that belong to this node.
    queue: str
    #: Queue of this node's cron occurrences.
    crontab_queue: str
    #: Labels for selectors.
    labels: Mapping[str, str] = field(default_factory=dict)


class Topology:
    """The nodes of one deployment, in the order they were given."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._nodes: dict[str, Node] = {}
        for node in nodes:
            if node.name in self._nodes:
                raise ConfigurationError(f"nodekit_nodes names {node.name!r} twice.")
            self._nodes[node.name] = node
        self._check_queues()

    @classmethod
    def from_config(cls, config: NodeKitConfig) -> Topology:
        """Read ``nodekit_nodes`` and the queue templates.

        Raises:
            ConfigurationError: a name, label or queue is malformed, or two nodes share a queue.
        """
        given = config.nodes
        items: Iterable[tuple[Any, Any]]
        items = given.items() if isinstance(given, Mapping) else ((name, None) for name in given)
        return cls(_read_node(name, options, config) for name, options in items)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def names(self) -> list[str]:
        """Names of all nodes, in order."""
        return list(self._nodes)

    def get(self, name: str) -> Node:
        """Return one node by its name.

        Raises:
            UnknownNodeError: there is none; the message names the known ones.
        """
        try:
            return self._nodes[name]
        except (KeyError, TypeError):
            raise self._unknown(name) from None

    def queue_owner(self, queue: str) -> Node | None:
        """Return the node that a node queue or crontab queue belongs to."""
        for node in self:
            if queue in (node.queue, node.crontab_queue):
                return node
        return None

    def candidates(self, selector: Selector) -> list[Node]:
        """Return every node that a selector may pick, before ``:N`` chooses among them.

        Raises:
            UnknownNodeError: a name or label that no node has.
            ConfigurationError: the selector is empty or malformed.
        """
        chosen: set[str] = set()
        for part in self._parts(selector):
            nodes, _count = self._resolve(part)
            chosen.update(node.name for node in nodes)
        return [node for node in self if node.name in chosen]

    def select(self, selector: Selector, *, key: str = "") -> list[Node]:
        """Return the nodes a selector picks, in the order of the topology.

        Args:
            selector: a name, ``"all"``, ``"label=value"``, ``"label=value:N"`` for N of them, or a
                list of these.
            key: what ``"label=value:N"`` chooses by; one key always gives the same nodes.

        Raises:
            UnknownNodeError: a name or label that no node has.
            ConfigurationError: the selector is empty or malformed.
        """
        chosen: set[str] = set()
        for part in self._parts(selector):
            nodes, count = self._resolve(part)
            names = [node.name for node in nodes]
            chosen.update(names if count is None else rendezvous(key, names, count))
        return [node for node in self if node.name in chosen]

    def _parts(self, selector: Selector) -> list[str]:
        parts = [selector] if isinstance(selector, str) else selector
        if not isinstance(parts, Sequence) or not all(isinstance(p, str) for p in parts):
            raise ConfigurationError(
                f"A node selector is a name, a list of names, 'all' or 'label=value',"
                f" not {selector!r}."
            )
        if not parts or not all(parts):
            raise ConfigurationError(
                f"The node selector {selector!r} selects no node; use 'all' for every node."
            )
        return list(parts)

    def _resolve(self, part: str) -> tuple[list[Node], int | None]:
        if not self._nodes:
            raise ConfigurationError(
                f"No nodes are configured, so {part!r} selects none; set nodekit_nodes,"
                ' for example NodeKit(app, nodes=["node1", "node2"]).'
            )
        if part == ALL:
            return list(self), None
        if "=" not in part:
            return [self.get(part)], None
        match = _LABEL.fullmatch(part)
        if match is None or match["count"] == "0":
            raise ConfigurationError(
                f"The node selector {part!r} is malformed; write 'role=web', or 'role=web:1' for"
                " one of them, and a list for several selectors."
            )
        nodes = [node for node in self if node.labels.get(match["key"]) == match["value"]]
        if not nodes:
            labels = sorted({f"{k}={v}" for node in self for k, v in node.labels.items()})
            raise UnknownNodeError(
                f"No node has the label {match['key']}={match['value']}."
                f"{did_you_mean(part, labels)} Known labels: {', '.join(labels) or 'none'}."
            )
        return nodes, int(match["count"]) if match["count"] else None

    def _unknown(self, name: object) -> UnknownNodeError:
        return UnknownNodeError(
            f"Unknown node {name!r}.{did_you_mean(str(name), self._nodes)}"
            f" Known nodes: {', '.join(self._nodes) or 'none (set nodekit_nodes)'}."
        )

    def _check_queues(self) -> None:
        owners: dict[str, str] = {}
        for node in self:
            for queue in (node.queue, node.crontab_queue):
                owner = owners.setdefault(queue, node.name)
                if owner != node.name or node.queue == node.crontab_queue:
                    raise ConfigurationError(
                        f"The queue {queue!r} is used twice, by {owner} and {node.name}; every"
                        " node needs a queue and a crontab queue of its own."
                    )


def rendezvous(key: str, names: Sequence[str], count: int = 1) -> list[str]:
    """Choose ``count`` of the names by a key, so that a new name takes over only its share.

    Highest random weight hashing (Thaler and Ravishankar 1998) over BLAKE2b: independent of
    process, platform and order.
    """

    def weight(name: str) -> bytes:
        return hashlib.blake2b(f"{key}\0{name}".encode(), digest_size=8).digest()

    return sorted(names, key=weight, reverse=True)[:count]


def _read_node(name: object, options: object, config: NodeKitConfig) -> Node:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == ALL:
        raise ConfigurationError(
            f"nodekit_nodes: {name!r} cannot be the name of a node; use up to 128"
            " letters, digits, '.', '_' and '-', and not 'all'."
        )
    options = {} if options is None else options
    if not isinstance(options, Mapping):
        raise ConfigurationError(
            f"nodekit_nodes[{name!r}] must be a mapping with 'labels', 'queue' and"
            f" 'crontab_queue', not {options!r}."
        )
    for key in options:
        if key not in _NODE_KEYS:
            raise ConfigurationError(
                f"nodekit_nodes[{name!r}] has the unknown key {key!r}."
                f"{did_you_mean(str(key), _NODE_KEYS)} Known: {', '.join(sorted(_NODE_KEYS))}."
            )
    return Node(
        name=name,
        queue=_queue_name(name, "queue", options, config.node_queue),
        crontab_queue=_queue_name(name, "crontab_queue", options, config.crontab_queue),
        labels=_read_labels(name, options.get("labels")),
    )


def _queue_name(node: str, key: str, options: Mapping[str, Any], template: str) -> str:
    queue = options.get(key)
    if queue is None:
        return template.format(node=node)
    if not isinstance(queue, str) or not queue:
        raise ConfigurationError(
            f"nodekit_nodes[{node!r}][{key!r}] must be the name of a queue, not {queue!r}."
        )
    return queue


def _read_labels(node: str, labels: object) -> dict[str, str]:
    if labels is None:
        return {}
    if isinstance(labels, Mapping) and all(
        _LABEL.fullmatch(f"{key}={value}") and ":" not in str(value)
        for key, value in labels.items()
    ):
        return {str(key): str(value) for key, value in labels.items()}
    raise ConfigurationError(
        f"nodekit_nodes[{node!r}]['labels'] must be a mapping such as {{'role': 'web'}} without"
        f" '=', ':', ',' or blanks, not {labels!r}."
    )
