"""Jobs flow while processes die, networks fail, memory and disks fill up, clocks step.

    python -m benchmarks.chaos --minutes 10 --seed 1 [--faults kill,network,...] [--json FILE]

Everything is a process of its own: signal, gateway, two routers, two FAST workers, one ECO
worker, two accounting roles, a server with an append-only file and a replica of it, and a
proxy between each of them and the server. Strikes are drawn from the seed (`strikes.py`) and
carried out (`faults.py`) while jobs come in over HTTP with idempotency keys and straight to
the streams (`load.py`). With `--partitions 4` it is all spread over a cluster of three nodes
and their replicas (`cluster.py`). When all has come to rest, `benchmarks.invariants` must hold.
"""
