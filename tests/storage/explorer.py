"""The crash-state explorer: every state that a power cut may leave behind is recovered and judged.

A workload is recorded as a tape of cuts, one at each call. At a cut the durable part of the disk is certain; of the
rest any part may be there: any subset of the unsynced 4 KiB blocks and 512-byte sectors, in any order, what is missing
read as what was there before, as zeros or as garbage, and any subset of the changes to directories. Each state is
opened with `open_data_dir` itself; nothing acknowledged may be lost, nothing may appear that was not written, no state
may be refused, and a second start after one more append must find the same and that append.

    python -m tests.storage.explorer --states 500000
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import itertools
import logging
import sys
import time
from array import array
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from random import Random

from raftactors.core.types import Entry, HardState
from raftactors.errors import StorageError
from raftactors.storage import OpenedStorage, WalBatch, open_data_dir

from .shares import parse_share, run_shares, tell
from .tape import (
    FOLDER,
    SEGMENT_BYTES,
    WITNESS,
    Content,
    Cut,
    FrozenDirectory,
    FrozenFile,
    Names,
    Observe,
    PlainFiles,
    Recorder,
)
from .workloads import WORKLOADS

SECTOR_BYTES = 512
BLOCK_SECTORS = 8
EXHAUSTIVE_BITS = 12
"""Up to this many independent pieces all subsets are tried, beyond it they are drawn."""

Piece = tuple[int, bytes]
Image = dict[str, bytes | None]


@dataclass(slots=True)
class Findings:
    """What one exploration met. `hashes` has one 64-bit number for each distinct state."""

    states: int = 0
    generated: int = 0
    torn: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    hashes: array[int] = field(default_factory=lambda: array("Q"))


def pieces_of(file: FrozenFile) -> list[Piece]:
    """The unsynced writes cut at the sectors of the disk, in the order in which they were made."""
    pieces = []
    for offset, content in file.writes:
        first = SECTOR_BYTES - offset % SECTOR_BYTES
        bounds = [0, *range(first, len(content), SECTOR_BYTES), len(content)]
        pieces += [(offset + low, content[low:high]) for low, high in itertools.pairwise(bounds)]
    return pieces


def put(data: bytearray, offset: int, content: bytes) -> None:
    """Write into a growing file."""
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(content)] = content


class Damage:
    """Chooses what of a file's unsynced pieces is there. One draw fits one file at one cut."""

    def __init__(self, file: FrozenFile, rng: Random) -> None:
        self._file = file
        self._rng = rng
        self._pieces = pieces_of(file)
        self._masks = self._all_masks()

    def _all_masks(self) -> Iterator[int]:
        bits = len(self._pieces)
        if bits <= EXHAUSTIVE_BITS:
            masks = list(range(1 << bits))
            self._rng.shuffle(masks)
            yield from masks
        while True:
            yield self._drawn_mask(bits)

    def _drawn_mask(self, bits: int) -> int:
        """Whole blocks by chance, then one block torn at its sectors: what a disk does with a long write."""
        rng, mask = self._rng, 0
        chance = rng.choice((0.1, 0.5, 0.9))
        for start in range(0, bits, BLOCK_SECTORS):
            if rng.random() < chance:
                mask |= 0xFF << start
        torn = rng.randrange(0, bits, BLOCK_SECTORS) if bits else 0
        mask = mask & ~(0xFF << torn) | rng.getrandbits(8) << torn
        return mask & ((1 << bits) - 1)

    def draw(self) -> bytes:
        """One possible content of the file."""
        rng, mask = self._rng, next(self._masks)
        data = bytearray(self._file.durable)
        fill = rng.randrange(4)
        order = list(range(len(self._pieces)))
        if len(self._file.writes) > 1 and rng.random() < 0.3:
            rng.shuffle(order)
        for i in order:
            offset, content = self._pieces[i]
            if mask >> i & 1:
                put(data, offset, content)
            elif fill == 1:
                put(data, offset, bytes(len(content)))
            elif fill == 2:
                put(data, offset, b"\xff" * len(content))
            elif fill == 3 and rng.random() < 0.5:
                put(data, offset, rng.randbytes(len(content)))
        return bytes(data)


class CutStates:
    """Draws the states that a power cut at one cut may leave."""

    def __init__(self, cut: Cut, seed: int) -> None:
        self.cut = cut
        self._rng = Random(f"{seed}/{cut.workload}/{cut.call}")
        self._damages: dict[int, Damage] = {}
        self.shared: set[int] = set()

    def draw(self) -> Image:
        """One state: the names that are there and their contents."""
        image: Image = {}
        self._fill(image, "", self.cut.root, {})
        return image

    def _fill(self, image: Image, path: str, directory: FrozenDirectory, drawn: dict[int, bytes]) -> None:
        names = dict(directory.names)
        rng = self._rng
        keep = rng.getrandbits(len(directory.changes)) if directory.changes else 0
        for i, (removed, added, node) in enumerate(directory.changes):
            if keep >> i & 1:
                names.pop(removed, None)
                if node is not None:
                    names[added] = node
        for name, node in names.items():
            here = f"{path}/{name}"
            if isinstance(node, FrozenDirectory):
                image[here] = None
                self._fill(image, here, node, drawn)
            elif not node.writes:
                image[here] = node.durable
                self.shared.add(id(node.durable))
            else:
                if id(node) not in drawn:
                    damage = self._damages.get(id(node)) or self._damages.setdefault(id(node), Damage(node, rng))
                    drawn[id(node)] = damage.draw()
                image[here] = drawn[id(node)]


class Hasher:
    """Gives each state 64 bits that tell it from others. Contents that are shared between states are read once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[bytes, bytes]] = {}

    def __call__(self, image: Image, shared: set[int]) -> int:
        digest = hashlib.blake2b(digest_size=8)
        for name in sorted(image):
            content = image[name]
            digest.update(name.encode())
            digest.update(b"/" if content is None else self._of(content, shared))
        return int.from_bytes(digest.digest(), "little")

    def _of(self, content: bytes, shared: set[int]) -> bytes:
        if id(content) not in shared:
            return hashlib.blake2b(content, digest_size=16).digest()
        known = self._known.get(id(content))
        if known is None:
            known = self._known[id(content)] = (hashlib.blake2b(content, digest_size=16).digest(), content)
        return known[0]


class Judge:
    """Opens states and says what is wrong with what it finds."""

    def __init__(self, observe: Observe) -> None:
        self._observe = observe
        self._passed: set[bytes] = set()
        self.torn = 0

    def complaint(self, cut: Cut, image: Image) -> str:
        """ "" if recovery did what it must, otherwise what it did."""
        names: Names = {name: None if content is None else Content(content) for name, content in image.items()}
        files = PlainFiles(names)
        try:
            opened = self._open(files, cut)
        except Exception as error:
            return f"refused: {type(error).__name__}: {error}"
        found = self._observe(opened)
        self.torn += opened.recovery.torn_bytes > 0
        if found not in cut.allowed:
            return f"found {brief(found)}, allowed are {[brief(outcome) for outcome in cut.allowed]}"
        if opened.incarnation <= cut.incarnation:
            return f"incarnation {opened.incarnation} after {cut.incarnation}"
        # Many states are the same one after the first start; the second one need not be made again for each.
        key = left_by(files, found)
        if key in self._passed:
            return ""
        complaint = self._second_start(files, cut, opened)
        if not complaint:
            self._passed.add(key)
        return complaint

    def _second_start(self, files: PlainFiles, cut: Cut, opened: OpenedStorage) -> str:
        last = opened.entries[-1].index if opened.entries else opened.snapshot.index
        probe = Entry(opened.hard_state.term + 1, last + 1, b"probe")
        hard_state = HardState(probe.term, 1, last)
        expected = [*opened.entries, probe]
        try:
            opened.wal.append([WalBatch(hard_state, [probe])])
            files.end_process()
            again = self._open(files, cut)
        except Exception as error:
            return f"second start refused: {type(error).__name__}: {error}"
        if (again.entries, again.hard_state) != (expected, hard_state):
            return f"second start found {brief((tuple(again.entries), again.hard_state))}"
        return "" if again.incarnation > opened.incarnation else "the second start repeated an incarnation"

    @staticmethod
    def _open(files: PlainFiles, cut: Cut) -> OpenedStorage:
        salts = Random(1)
        return open_data_dir(
            FOLDER,
            cluster_id=9,
            node_id=1,
            segment_bytes=SEGMENT_BYTES,
            files=files,
            random_bytes=salts.randbytes,
            witness_path=WITNESS if cut.has_witness else None,
        )


def left_by(files: PlainFiles, found: Hashable) -> bytes:
    """What a start has left, as far as the next one depends on it, and what it has found."""
    digest = hashlib.blake2b(str(hash(found)).encode(), digest_size=16)
    for name, content in sorted(files.names.items()):
        if content is not None and not name.endswith(".broken"):
            digest.update(name.encode())
            digest.update(content.data)
    return digest.digest()


def brief(outcome: Hashable) -> str:
    """An outcome in a few words."""
    assert isinstance(outcome, tuple)
    ids = [f"{entry.term}/{entry.index}" for entry in outcome[0]]
    return f"{len(ids)} entries ({' '.join(ids[-4:])}), {outcome[1]}"


def explore(
    states: int,
    *,
    workloads: tuple[str, ...] = (),
    seed: int = 1,
    share: tuple[int, int] = (0, 1),
    stop_at_failure: bool = False,
    progress: Callable[[int], None] = lambda count: None,
) -> Findings:
    """Judge `states` distinct states, drawn in turn from every cut; `share` (i, n) takes every nth cut from the ith.

    Ends early when all cuts together have no more.
    """
    findings = Findings()
    sources: list[tuple[CutStates, Judge, list[int]]] = []
    for name in workloads or tuple(WORKLOADS):
        judge = Judge(WORKLOADS[name][1])
        disk = Recorder(name)
        try:
            WORKLOADS[name][0](disk)
        except StorageError as error:  # A workload that loses its power itself may meet what it is to lead to.
            findings.failures.append(f"{name}, call {len(disk.calls)}: refused while it ran: {error}")
        sources += [(CutStates(cut, seed), judge, [0]) for cut in disk.cuts]
    sources = sources[share[0] :: share[1]]
    seen, hasher = set[int](), Hasher()
    started = time.perf_counter()
    while sources and findings.states < states:
        # A cut that gave nothing new so often has nothing new.
        sources = [source for source in sources if source[2][0] < 40]
        for source, judge, barren in sources:
            image = source.draw()
            findings.generated += 1
            number = hasher(image, source.shared)
            if number in seen:
                barren[0] += 1
                continue
            barren[0] = 0
            seen.add(number)
            findings.states += 1
            complaint = judge.complaint(source.cut, image)
            if complaint:
                cut = source.cut
                findings.failures.append(f"{cut.workload}, call {cut.call}, state {number:016x}: {complaint}")
                if stop_at_failure:
                    break
            if findings.states % 500 == 0:
                progress(500)
            if findings.states >= states:
                break
        if stop_at_failure and findings.failures:
            break
        findings.torn = sum({id(judge): judge.torn for _, judge, _ in sources}.values())
    findings.hashes.extend(seen)
    findings.seconds = time.perf_counter() - started
    return findings


def explore_in_processes(states: int, *, seed: int = 1) -> Findings:
    """The same with a process for every core; states that two of them met count once."""
    results = run_shares(
        "tests.storage.explorer", ["--states", str(states), "--seed", str(seed)], total=states, title="crash states"
    )
    findings, seen = Findings(), set[int]()
    for result in results:
        hashes = array("Q", base64.b64decode(result.pop("hashes")))
        seen.update(hashes)
        findings.failures += result["failures"]
        findings.torn += result["torn"]
        findings.generated += result["generated"]
        findings.seconds = max(findings.seconds, result["seconds"])
    findings.states = len(seen)
    return findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=100_000, help="how many distinct states to judge")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=parse_share, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.getLogger("raftactors.storage").setLevel(logging.ERROR)  # Which would tell of every torn witness.
    if arguments.share is not None:
        states = -(-arguments.states // arguments.share[1])
        findings = explore(states, seed=arguments.seed, share=arguments.share, progress=lambda count: tell(done=count))
        tell(
            result={
                "failures": findings.failures[:100],
                "torn": findings.torn,
                "generated": findings.generated,
                "seconds": findings.seconds,
                "hashes": base64.b64encode(findings.hashes.tobytes()).decode(),
            }
        )
        return 0
    findings = explore_in_processes(arguments.states, seed=arguments.seed)
    print(
        f"{findings.states:,} distinct crash states of {len(WORKLOADS)} workloads in {findings.seconds:.1f} s "
        f"({findings.states / findings.seconds:,.0f}/s), {findings.torn:,} with a torn end, "
        f"{len(findings.failures)} failures"
    )
    for failure in findings.failures[:20]:
        print(failure)
    return bool(findings.failures)


if __name__ == "__main__":
    sys.exit(main())
