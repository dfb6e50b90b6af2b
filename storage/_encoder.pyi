from collections.abc import Sequence

from raftactors.storage.marks import Mark
from raftactors.storage.record import EncodedBatch, LogEnd, Place, WalBatch

def encode_batch(batches: Sequence[WalBatch], place: Place, end: LogEnd, /) -> EncodedBatch | None: ...
def encode_marks(salt: int, mark: Mark, stop: int, /, *, far: bool) -> bytes: ...
