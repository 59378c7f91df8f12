"""What a job's process is told: which job, where it is kept; then, while it works, letters.

Knows nothing of either side.
"""

import msgspec

from firefront.core.deployment import Deployment

# Letters on the process's standard input, after the line with the order. Its end means: stop.
BUSY, IDLE, LOOK = b"b", b"i", b"l"  # requests run; none do; somebody changed the job


class WorkOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One line of JSON. `owner` holds the job's lease; `store`: a database's URL, None for the file
    in FIREFRONT_HOME; `models`: the base models that are served, and how."""

    account_id: str
    job_id: str
    owner: str
    store: str | None
    models: dict[str, Deployment]
