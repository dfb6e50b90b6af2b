"""Answers that do not fit into one reply are asked for in parts, and every caller gets its own."""

from __future__ import annotations

from raftactors.client import Client
from tests.client.fake_node import FakeNode


def test_queries_with_large_answers() -> None:
    with FakeNode() as node, Client([node.address], cluster_id=7) as client:
        values = {f"key-{number}": bytes([number]) * 100_000 for number in range(12)}
        for key, value in values.items():
            client.call("put", key, value)
        answers = {key: client.submit_query("get", key) for key in values}
        got = {key: answer.get() for key, answer in answers.items()}
        assert got.keys() == values.keys()
        for key, answer in got.items():
            assert values[key] in (answer if isinstance(answer, list | tuple) else [answer]), key
