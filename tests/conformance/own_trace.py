"""Records a small trace of our own, so that the comparison can be tested where the golden traces are absent."""

from __future__ import annotations

from tests.conformance.replaying import FORMAT, REFERENCE
from tests.conformance.trace_schema import Json, normalise
from tests.conformance.world import World

_CONFIG: Json = {
    "election_tick": 5,
    "heartbeat_tick": 1,
    "max_size_per_msg": 100,
    "max_inflight_msgs": 4,
    "max_inflight_bytes": 1000,
    "max_uncommitted_entries_size": 0,
    "max_committed_size_per_ready": 0,
    "check_quorum": True,
    "pre_vote": True,
    "read_only_option": "safe",
    "disable_proposal_forwarding": False,
    "step_down_on_removal": False,
    "disable_conf_change_validation": False,
    "async_storage_writes": False,
}
_SNAPSHOT: Json = {"index": 5, "term": 1, "conf": {"voters": [1, 2, 3]}, "data": "snap@5"}
_HARD_STATE: Json = {"term": 1, "vote": 0, "commit": 5}


class Recorder:
    """Performs operations and keeps them as the lines of a trace."""

    def __init__(self) -> None:
        self._world = World()
        self._lines: list[Json] = []
        self._waiting: dict[int, int] = {}

    def do(self, name: str, node_id: int | None = None, **arguments: object) -> Json:
        """Perform one operation and record what it gave."""
        op: Json = {"op": name} | ({} if node_id is None else {"id": node_id}) | arguments
        out = self._world.perform(op)
        if "detail" in out:
            # The only configuration that is refused here; a trace holds the reference's text for it.
            out["detail"] = "heartbeat tick must be greater than 0"
        self._lines.append({"n": len(self._lines), "op": op, "out": normalise("out", out)})
        for message in [*out.get("ready", {}).get("messages", ()), *out.get("sent", ())]:
            if "seq" in message:
                self._waiting[message["seq"]] = message["to"]
        return out

    def create(self, node_id: int, *, stored: bool = True, **config: object) -> None:
        """Start a node, with a snapshot of a cluster of three if `stored`."""
        storage = {"snapshot": _SNAPSHOT, "hard_state": _HARD_STATE} if stored else {}
        self.do("new", node_id, config=_CONFIG | config, **storage)

    def restart(self, node_id: int, **config: object) -> None:
        """Start a crashed node again."""
        self.do("restart", node_id, config=_CONFIG | config)

    def settle(self) -> None:
        """Handle everything that waits anywhere, until nothing is left."""
        while self._settle_nodes() or self._waiting:
            for seq, target in sorted(self._waiting.items()):
                del self._waiting[seq]
                if target in self._world.nodes:
                    self.do("deliver", target, seq=seq)
                else:
                    self.do("drop", seq=seq)

    def _settle_nodes(self) -> bool:
        worked = False
        for node_id, node in sorted(self._world.nodes.items()):
            for name, wanted in (
                ("ready", node.raw.has_ready()),
                ("process_append", bool(node.append_work)),
                ("process_apply", bool(node.apply_work)),
            ):
                if wanted:
                    self.do(name, node_id)
                    worked = True
        return worked

    def waiting(self) -> list[int]:
        """Sequence numbers of the messages that are under way."""
        return sorted(self._waiting)

    def lines(self) -> list[Json]:
        """The trace so far."""
        created = {line["op"]["id"] for line in self._lines if line["op"]["op"] == "new" and not line["out"]["err"]}
        header = {
            "format": FORMAT,
            "scenario": 0,
            "seed": 0,
            "reference": REFERENCE,
            "ops": len(self._lines),
            "nodes": len(created),
            "async": True,
            "puppet": False,
        }
        return [header, *self._lines]


def record_trace() -> list[Json]:
    """A trace that shows nearly every key of the format at least once."""
    recorder = Recorder()
    recorder.create(9, heartbeat_tick=0)
    recorder.create(1)
    recorder.create(2, async_storage_writes=True)
    recorder.create(3, async_storage_writes=True, max_committed_size_per_ready=1)
    recorder.do("propose", 1, data="nobody leads")
    recorder.do("tick", 1, n=10)
    recorder.settle()
    recorder.do("propose", 2, data="")
    recorder.do("propose", 1, data="a command")
    recorder.do("read_index", 3, ctx="r1")
    recorder.settle()
    _change_membership(recorder)
    _fall_behind(recorder)
    for node_id in (1, 2, 3):
        recorder.do("log", node_id)
    recorder.do("campaign", 3)
    recorder.do("ready", 3)
    recorder.do("process_append", 3, hold=True)
    recorder.do("local", 3)
    return recorder.lines()


def _change_membership(recorder: Recorder) -> None:
    changes = [{"type": "add_learner", "node": 4}, {"type": "add_learner", "node": 3}]
    recorder.do("propose_conf_change", 1, cc={"transition": "explicit", "changes": changes, "context": "ctx"})
    recorder.settle()
    recorder.do("propose_conf_change", 1, cc={"transition": "auto", "changes": []})
    recorder.settle()
    single = {"v1": True, "id": 7, "changes": [{"type": "add", "node": 3}]}
    recorder.do("propose_conf_change", 1, cc=single)
    recorder.settle()
    response = {"type": "MsgAppResp", "from": 8, "to": 1, "term": 2, "index": 1}
    recorder.do("step", 1, msg=response)


def _fall_behind(recorder: Recorder) -> None:
    recorder.do("crash", 3)
    for number in range(6):
        recorder.do("propose", 1, data=f"missed {number}")
        recorder.settle()
    out = recorder.do("log", 1)
    last = out["state"]["applied"]
    recorder.do("create_snapshot", 1, index=last)
    recorder.do("create_snapshot", 1, index=last)
    recorder.do("compact", 1, index=last)
    recorder.do("compact", 1, index=last)
    recorder.do("tick", 1)
    recorder.restart(3, async_storage_writes=True)
    recorder.settle()
    recorder.do("report_unreachable", 1, to=2)
    recorder.do("transfer_leader", 1, to=2)
    recorder.do("snapshot_available", 1, ok=False)
    recorder.do("send_snapshot", 2, to=3)
    recorder.do("duplicate", seq=max(recorder.waiting()))
    recorder.settle()
