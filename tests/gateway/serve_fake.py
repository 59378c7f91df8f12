"""A real server process over fake replicas: `serve_fake.py MODEL...`; prints what serve prints."""

import os
import sys
from pathlib import Path

from fake_store import FakeStore
from fakes import FakeTokenizer

from firefront.core.deployment import Deployment
from firefront.fleet.replica import ReplicaLimits
from firefront.gateway.server import ServerOptions, run
from firefront.gateway.state import Settings

if __name__ == "__main__":
    environ = os.environ.get
    options = ServerOptions(
        port=0,
        drain_timeout_s=float(environ("FAKE_DRAIN_S", "5")),
        command=(sys.executable, str(Path(__file__).with_name("fake_replica.py"))),
        limits=ReplicaLimits(hang_s=float(environ("FAKE_HANG_S", "5"))),
        locate=lambda spec: (spec, spec),
        load_text=lambda path: FakeTokenizer(),
        open_store=lambda: None if environ("FAKE_NO_STORE") else FakeStore(),
        settings=Settings(
            keep_alive_s=float(environ("FAKE_KEEP_ALIVE_S", "15")),
            stall_limit_s=float(environ("FAKE_STALL_S", "30")),
        ),
    )
    sys.exit(run([Deployment(model=name) for name in sys.argv[1:]], options))
