"""Other Python job queues on Redis, each in its own virtual environment, measured as we are.

A peer's module here is its application: one no-op job, configured for throughput as the peer's
own documentation says. It is imported only inside that peer's environment and offers

    noop                the job; takes (number, sent) and stamps its slot, see `slots.py`
    client()            async context manager that gives `send(number, sent)`, which enqueues one
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".bench"


@dataclass(frozen=True, slots=True)
class Peer:
    """What to install, and the command (of the environment's bin/) of one worker process.

    `variables` are set in the environment of the worker, for what has no option.
    """

    name: str
    requirements: tuple[str, ...]
    worker: str
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def environment(self) -> Path:
        return ENVIRONMENTS / self.name

    @property
    def module(self) -> str:
        return f"benchmarks.peers.{self.name.replace('-', '_')}"

    def binary(self, name: str) -> str:
        """A program of the environment, as an absolute path."""
        return str(self.environment / "bin" / name)


# The C parser and the fast event loop make every redis-py and asyncio peer faster; we use them too.
_HIREDIS = "hiredis==3.5.0"
_UVLOOP = "uvloop==0.23.0"

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            "dramatiq",
            ("dramatiq[redis]==2.2.1", "redis==8.1.0", _HIREDIS),
            "dramatiq --processes 1 --threads 8 benchmarks.peers.dramatiq",
            (("dramatiq_queue_prefetch", "100"),),
        ),
        Peer(
            "faststream",
            ("faststream[redis,cli]==0.7.8", "redis==8.1.0", _HIREDIS, _UVLOOP),
            "faststream run benchmarks.peers.faststream:app",
        ),
        Peer(
            "taskiq-redis",
            ("taskiq-redis==1.2.4", "taskiq==0.13.0", "redis==8.1.0", _HIREDIS, _UVLOOP),
            "taskiq worker --workers 1 --log-level WARNING benchmarks.peers.taskiq_redis:broker",
        ),
        Peer(
            "saq",
            ("saq[redis]==0.26.4", "typing-extensions==4.16.0", "redis==7.4.1", _HIREDIS, _UVLOOP),
            "saq benchmarks.peers.saq.settings",
        ),
        Peer(
            "arq",
            ("arq==0.28.0", "redis==5.3.1", _HIREDIS, _UVLOOP),
            "arq --custom-log-dict benchmarks.peers.arq.LOGGING benchmarks.peers.arq.Settings",
        ),
        Peer(
            "celery",
            ("celery[redis]==5.7.0", "kombu==5.7.0", "redis==8.1.0", _HIREDIS),
            "celery --app benchmarks.peers.celery worker --pool threads --concurrency 1"
            " --prefetch-multiplier 128 --without-gossip --without-mingle --loglevel WARNING",
        ),
        Peer(
            "streaq",
            ("streaq==7.2.0", "coredis==6.9.0", _UVLOOP),
            "streaq run benchmarks.peers.streaq:worker",
        ),
        Peer(
            "pydocket",
            ("pydocket==0.27.0", "redis==8.1.0", _HIREDIS, _UVLOOP),
            "python -m benchmarks.peers.pydocket",
        ),
        Peer(
            "rq",
            ("rq==3.0.0", "redis==8.1.0", _HIREDIS),
            "rq worker --worker-class rq.SimpleWorker --quiet bench",
        ),
    )
}

#: Not a queue: what takes a job over HTTP and puts it on a stream, for benchmarks/http.py.
FASTAPI = Peer(
    "fastapi",
    (
        *("fastapi==0.165.0", "uvicorn==0.54.0", "httptools==0.9.0"),
        *("redis==8.1.0", _HIREDIS, _UVLOOP),
    ),
    "uvicorn --no-access-log --log-level warning --loop uvloop --http httptools"
    " benchmarks.peers.fastapi:app",
)
