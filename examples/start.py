"""A replicated key-value store on three processes, in three lines."""

from raftactors import LocalCluster

with LocalCluster(3) as cluster, cluster.client() as client:
    client.kv.put("greeting", "hello from three processes")
    print(client.kv.get("greeting"))
