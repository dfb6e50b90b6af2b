"""The caller's side: sessions, retries, leader discovery, futures, proxies."""

from __future__ import annotations

from raftactors.client.client import Client
from raftactors.client.options import ClientOptions
from raftactors.client.proxy import BlockingProxy, Proxy
from raftactors.client.reply import Reply

__all__ = ["BlockingProxy", "Client", "ClientOptions", "Proxy", "Reply"]
