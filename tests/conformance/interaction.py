"""The commands of interaction scripts."""

from __future__ import annotations

from collections.abc import Callable

from raftactors.core.messages import MessageType
from raftactors.core.types import ConfChange, ConfChangeV2
from raftactors.errors import InvariantViolation, RaftActorsError
from tests.conformance import printing
from tests.conformance.datadriven_syntax import Directive, DirectiveError
from tests.conformance.interaction_extra import EXTRA_COMMANDS, MESSAGE_TYPES
from tests.conformance.interaction_options import CONFIG_OPTIONS, STORAGE_OPTIONS, build_config, build_storage
from tests.conformance.interaction_world import LEVELS, Cluster, InteractionNode, error_text

Command = Callable[[Cluster, Directive], None]


class Interaction:
    """Runs the directives of one script against a cluster of its own."""

    def __init__(self) -> None:
        self.cluster = Cluster()

    def run(self, directive: Directive) -> str:
        """Perform one directive; returns its output. Raises DirectiveError if it makes no sense."""
        command, known = COMMANDS.get(directive.command, (None, ()))
        if command is None:
            raise DirectiveError(f"unknown command {directive.command}")
        directive.check_arguments(known)
        self.cluster.output.take()
        error = ""
        try:
            command(self.cluster, directive)
        except RaftActorsError as failure:
            error = error_text(failure)
        except InvariantViolation as failure:
            error = f"node stops: {failure}"
        return (self.cluster.output.take() + error) or "ok"


def _nodes(cluster: Cluster, directive: Directive) -> list[InteractionNode]:
    return [cluster.node(node_id) for node_id in directive.ids()]


def _node(cluster: Cluster, directive: Directive) -> InteractionNode:
    return cluster.node(directive.one_id())


def _word(directive: Directive, position: int) -> str:
    names = directive.names()
    if position >= len(names):
        raise DirectiveError(f"{directive.text}: an argument is missing")
    return names[position]


# --- cluster --------------------------------------------------------------------------------------------------


def add_nodes(cluster: Cluster, directive: Directive) -> None:
    """add-nodes n [options]"""
    for _ in range(int(_word(directive, 0))):
        node = cluster.add_node(build_config(directive), build_storage(directive))
        if peers := directive.values("bootstrap"):
            node.raw.bootstrap(tuple(map(int, peers)))


def log_level(cluster: Cluster, directive: Directive) -> None:
    """log-level X"""
    cluster.output.level = _level(_word(directive, 0))


def _level(name: str) -> str:
    if name.upper() not in LEVELS:
        raise DirectiveError(f"unknown log level {name}")
    return name.upper()


def raft_log(cluster: Cluster, directive: Directive) -> None:
    """raft-log id"""
    storage = _node(cluster, directive).storage
    entries = storage.stored_entries()
    for entry in entries:
        cluster.output.line(printing.entry_text(entry))
    if not entries:
        cluster.output.line(f"log is empty: first index={storage.first_index()}, last index={storage.last_index()}")


def raft_state(cluster: Cluster, directive: Directive) -> None:
    """raft-state"""
    for node in cluster.nodes:
        raft = node.raw.raft
        conf = raft.tracker.conf_state()
        kind = "Voter" if node.node_id in (*conf.voters, *conf.voters_outgoing) else "Non-Voter"
        role = printing.ROLE_NAMES[raft.role]
        cluster.output.line(f"{node.node_id}: {role} ({kind}) Term:{raft.term} Lead:{raft.leader_id}")


def status(cluster: Cluster, directive: Directive) -> None:
    """status id"""
    for node_id, progress in sorted(_node(cluster, directive).raw.status().progress.items()):
        cluster.output.line(f"{node_id}: {printing.progress_text(progress)}")


# --- calls ----------------------------------------------------------------------------------------------------


def campaign(cluster: Cluster, directive: Directive) -> None:
    """campaign id"""
    _node(cluster, directive).raw.campaign()


def propose(cluster: Cluster, directive: Directive) -> None:
    """propose id data"""
    _node(cluster, directive).raw.propose(_word(directive, 1).encode())


def propose_conf_change(cluster: Cluster, directive: Directive) -> None:
    """propose-conf-change id [v1=bool] [transition=...], the changes as input"""
    changes = printing.parse_changes(directive.input)
    change: ConfChange | ConfChangeV2
    if directive.flag("v1"):
        if len(changes) != 1:
            raise DirectiveError(f"{directive.text}: a V1 change has exactly one step")
        change = ConfChange(changes[0].type, changes[0].node_id)
    else:
        change = ConfChangeV2(changes, printing.TRANSITIONS[directive.value("transition", "auto")])
    _node(cluster, directive).raw.propose_conf_change(change)


def tick_heartbeat(cluster: Cluster, directive: Directive) -> None:
    """tick-heartbeat id"""
    node = _node(cluster, directive)
    for _ in range(node.config.heartbeat_ticks):
        node.raw.tick()


def tick_election(cluster: Cluster, directive: Directive) -> None:
    """tick-election id"""
    node = _node(cluster, directive)
    for _ in range(node.config.election_ticks):
        node.raw.tick()


def set_randomized_election_timeout(cluster: Cluster, directive: Directive) -> None:
    """set-randomized-election-timeout id timeout=n"""
    _node(cluster, directive).raw.raft.randomized_election_timeout_ticks = int(directive.value("timeout"))


def transfer_leadership(cluster: Cluster, directive: Directive) -> None:
    """transfer-leadership from=a to=b"""
    cluster.node(int(directive.value("from"))).raw.transfer_leader(int(directive.value("to")))


def forget_leader(cluster: Cluster, directive: Directive) -> None:
    """forget-leader id"""
    _node(cluster, directive).raw.forget_leader()


def report_unreachable(cluster: Cluster, directive: Directive) -> None:
    """report-unreachable a b"""
    _node(cluster, directive).raw.report_unreachable(directive.ids()[1])


# --- work -----------------------------------------------------------------------------------------------------


def _each(title: str, work: Callable[[Cluster, InteractionNode], None]) -> Command:
    """A command that does one unit of work per node; with several nodes each gets a heading."""

    def command(cluster: Cluster, directive: Directive) -> None:
        nodes = _nodes(cluster, directive)
        if len(nodes) == 1:
            work(cluster, nodes[0])
            return
        for node in nodes:
            cluster.output.line(f"> {node.node_id} {title}")
            with cluster.output.indented():
                work(cluster, node)

    return command


def stabilize(cluster: Cluster, directive: Directive) -> None:
    """stabilize [id...] [log-level=...]"""
    before = cluster.output.level
    if level := directive.value("log-level"):
        cluster.output.level = _level(level)
    try:
        cluster.stabilize(_nodes(cluster, directive) or cluster.nodes)
    finally:
        cluster.output.level = before


def deliver_msgs(cluster: Cluster, directive: Directive) -> None:
    """deliver-msgs [id...] [type=MsgX] [drop=(id,...)]"""
    kind: MessageType | None = None
    recipients: list[tuple[int, bool]] = []
    for argument in directive.arguments:
        if argument.values is None:
            recipients.append((int(argument.name), False))
        elif argument.name == "type":
            kind = MESSAGE_TYPES[argument.values[0]]
        else:
            recipients += [(int(value), True) for value in argument.values]
    if len({node_id for node_id, _ in recipients}) < len(recipients):
        raise DirectiveError(f"{directive.text}: a node is named twice")
    if not sum([cluster.deliver(node_id, kind, drop=drop) for node_id, drop in recipients]):
        cluster.output.line("no messages")


def send_snapshot(cluster: Cluster, directive: Directive) -> None:
    """send-snapshot a b"""
    sender, target = directive.ids()
    cluster.send_snapshot(cluster.node(sender), target)


def compact(cluster: Cluster, directive: Directive) -> None:
    """compact id index"""
    _node(cluster, directive).storage.compact(directive.ids()[1])
    raft_log(cluster, directive)


COMMANDS: dict[str, tuple[Command, tuple[str, ...]]] = {
    "add-nodes": (add_nodes, (*CONFIG_OPTIONS, *STORAGE_OPTIONS, "bootstrap")),
    "campaign": (campaign, ()),
    "compact": (compact, ()),
    "deliver-msgs": (deliver_msgs, ("type", "drop")),
    "forget-leader": (forget_leader, ()),
    "log-level": (log_level, ()),
    "process-append-thread": (_each("processing append thread", Cluster.process_append), ()),
    "process-apply-thread": (_each("processing apply thread", Cluster.process_apply), ()),
    "process-ready": (_each("handling Ready", Cluster.process_ready), ()),
    "propose": (propose, ()),
    "propose-conf-change": (propose_conf_change, ("v1", "transition")),
    "raft-log": (raft_log, ()),
    "raft-state": (raft_state, ()),
    "report-unreachable": (report_unreachable, ()),
    "send-snapshot": (send_snapshot, ()),
    "set-randomized-election-timeout": (set_randomized_election_timeout, ("timeout",)),
    "stabilize": (stabilize, ("log-level",)),
    "status": (status, ()),
    "tick-election": (tick_election, ()),
    "tick-heartbeat": (tick_heartbeat, ()),
    "transfer-leadership": (transfer_leadership, ("from", "to")),
    **EXTRA_COMMANDS,
}
"""Every command with the `name=value` arguments it takes."""
