"""A real server process over fake replicas: `serve_fake.py MODEL...`; prints what serve prints."""

import os
import sys
from pathlib import Path

from fakes import FakeTokenizer, read_adapter

from firefront.core.deployment import Deployment
from firefront.fleet.jobs import JobLimits
from firefront.fleet.replica import ReplicaLimits
from firefront.gateway.server import ServerOptions, run
from firefront.gateway.state import Settings

if __name__ == "__main__":
    environ = os.environ.get
    options = ServerOptions(
        port=0,
        store=environ("FIREFRONT_STORE"),
        drain_timeout_s=float(environ("FAKE_DRAIN_S", "5")),
        command=(sys.executable, str(Path(__file__).with_name("fake_replica.py"))),
        job_command=(sys.executable, str(Path(__file__).with_name("fake_worker.py"))),
        job_limits=JobLimits(look_s=0.2, backoff_s=0.1, stop_s=5),
        limits=ReplicaLimits(hang_s=float(environ("FAKE_HANG_S", "5"))),
        locate=lambda spec: (spec, spec),
        load_text=lambda path: FakeTokenizer(),
        read_adapter=read_adapter,
        adapters=[
            (name, Path(folder))
            for name, _, folder in (
                given.partition("=") for given in environ("FAKE_ADAPTERS", "").split()
            )
        ],
        host=environ("FAKE_HOST", "127.0.0.1"),
        insecure=bool(environ("FAKE_HOST")),
        settings=Settings(
            keep_alive_s=float(environ("FAKE_KEEP_ALIVE_S", "15")),
            stall_limit_s=float(environ("FAKE_STALL_S", "30")),
        ),
    )
    sys.exit(run([Deployment(model=name) for name in sys.argv[1:]], options))
