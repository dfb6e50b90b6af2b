"""Asks nodes for their status documents."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from raftactors.client import Client
from raftactors.errors import RequestError

STATUS_TIMEOUT_MS = 500


class StatusProbe:
    """A client that only asks for status; usable from several threads, which take turns."""

    def __init__(self, addresses: dict[int, str], cluster_id: int) -> None:
        self._addresses = addresses
        self._cluster_id = cluster_id
        self._client: Client | None = None
        self._is_stale = False
        self._lock = threading.Lock()

    def renew(self) -> None:
        """A node was started or has ended: begin with new connections, which meet it without waiting for a timeout."""
        self._is_stale = True

    def ask(self, node_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        """The status documents of those nodes that answer, each within `STATUS_TIMEOUT_MS`."""
        with self._lock:
            documents: dict[int, dict[str, Any]] = {}
            for node_id in node_ids:
                try:
                    document = self._ask(node_id, node_ids)
                except RequestError:
                    continue
                if isinstance(document, dict) and document.get("node_id") == node_id:
                    documents[node_id] = document
            return documents

    def close(self) -> None:
        """Release the client. May be called twice."""
        with self._lock:
            self._forget_client()

    def _ask(self, node_id: int, node_ids: Sequence[int]) -> object:
        if self._is_stale:
            self._is_stale = False
            self._forget_client()
        if self._client is None:
            # Only nodes that are asked, because those are up; one of them tells where the others are.
            addresses = [self._addresses[known] for known in node_ids]
            self._client = Client(addresses, cluster_id=self._cluster_id, timeout_ms=STATUS_TIMEOUT_MS)
        return self._client.admin("status", node=node_id)

    def _forget_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
