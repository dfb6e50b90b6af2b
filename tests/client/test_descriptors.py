"""A process that may open no more files gets an exception that says so, and its clients go on when it may again."""

from __future__ import annotations

from tests.client.fake_node import FakeNode
from tests.client.programs import run_program

PROGRAM = """
import resource, zmq
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
context = zmq.Context() if GIVEN else None

def occupy(leave):
    held = []
    try:
        while True:
            held.append(os.dup(0))
    except OSError:
        for descriptor in held[len(held) - leave:]:
            os.close(descriptor)
        return held[:len(held) - leave]

def release(held):
    for descriptor in held:
        os.close(descriptor)

def seen(left):
    held = occupy(left)
    try:
        with Client([ADDRESS], timeout_ms=200, context=context) as client:
            try:
                client.call("put", "a", "b")
                text = "served"
            except RaftActorsError as error:
                text = type(error).__name__ + (" names it" if "RLIMIT_NOFILE" in str(error) else "")
            release(held)
            held = []
            return text, client.call("put", "a", "c", timeout_ms=30_000) > 0
    except RaftActorsError as error:
        return type(error).__name__ + (" names it" if "RLIMIT_NOFILE" in str(error) else ""), True
    finally:
        release(held)

print(sorted({seen(left) for left in range(24)}))
first = Client([ADDRESS], context=context)
first.call("put", "a", "b")
print(sorted({seen(left) for left in range(4)} if context is None else []))
first.close()
"""


def test_no_number_of_free_descriptors_ends_the_process() -> None:
    with FakeNode() as node:
        first, second = run_program("GIVEN = False" + PROGRAM, node.address).splitlines()
    assert first == "[('DescriptorsUsedUpError names it', True), ('served', True)]"
    assert "('ClusterUnreachableError names it', True), ('DescriptorsUsedUpError names it', True)" in second


def test_a_context_of_the_user_is_not_started_without_descriptors_either() -> None:
    with FakeNode() as node:
        first, _ = run_program("GIVEN = True" + PROGRAM + "context.term()", node.address).splitlines()
    assert first == "[('DescriptorsUsedUpError names it', True), ('served', True)]"
