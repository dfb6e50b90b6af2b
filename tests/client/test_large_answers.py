"""Answers that do not fit into one reply are asked for in parts, and every caller gets its own."""

from __future__ import annotations

from raftactors.app import Application, query
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


class Archive(Application):
    """Answers with so many bytes, or after so long."""

    def __init__(self) -> None:
        self.asked = 0

    @query
    def page(self, number: int, size: int) -> list[object]:
        self.asked += 1
        return [number, bytes(size)]


def test_thousands_of_large_answers_are_asked_for_about_once() -> None:
    archive = Archive()
    with FakeNode(archive) as node, Client([node.address], cluster_id=7) as client:
        answers = [client.submit_query("page", number, 4_000) for number in range(4_096)]
        assert [answer.get()[0] for answer in answers] == list(range(4_096))
    assert archive.asked <= 1.2 * 4_096
    # Some 60 fit a reply. Frames of all that is missing would each have been sent again for every one of them.
    assert node.queries_taken <= 3 * 4_096


def test_queries_given_up_are_not_asked_again() -> None:
    """Those of a frame that was answered in part go back to those that wait."""
    archive = Archive()
    with FakeNode(archive) as node, Client([node.address], cluster_id=7) as client:
        hurried = [client.submit_query("page", number, 100_000, timeout_ms=1) for number in range(64)]
        patient = [client.submit_query("page", number, 100_000) for number in range(64)]
        assert [answer.get()[0] for answer in patient] == list(range(64))
        assert all(answer.done() for answer in hurried)
