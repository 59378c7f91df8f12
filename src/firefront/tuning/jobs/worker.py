"""The process that works on one job: its order comes in, its end says how it went.

Owns the process: priority, limits, what its standard input says. Knows no steps. Invariants: it
ends soon after its standard input does; whatever ends it, the job goes on or says why it failed.
"""

import ctypes
import os
import resource
import signal
import sys
import threading
import traceback
from contextlib import suppress
from io import FileIO

import msgspec

from firefront.core.errors import FirefrontError, OverloadedError
from firefront.store.jobs import Lease, LeaseLostError
from firefront.store.store import Store
from firefront.tuning.jobs import evaluation, evaluation_work
from firefront.tuning.jobs.folder import alone_in
from firefront.tuning.jobs.reporter import Reporter, Stopped
from firefront.tuning.jobs.request import fail
from firefront.tuning.jobs.work import Parts, work_on
from firefront.tuning.jobs.work_order import BUSY, IDLE, LOOK, WorkOrder

EXIT_FAILED = 3  # something of ours went wrong; the job is taken up again
_OBEY_S = 20.0  # to stop by itself, else it is ended
_IOPRIO_SET, _IOPRIO_PROCESS, _IOPRIO_IDLE = 251, 1, 3 << 13  # x86-64's number of the call


def main(parts: Parts) -> int:
    """Work on the job that standard input names; the exit code."""
    # A buffer has a lock, and a thread that waits for input would hold it to the end.
    told = open(0, "rb", buffering=0, closefd=False)
    order = msgspec.json.decode(told.readline(), type=WorkOrder)
    store = Store.open(order.store)
    lease = Lease(order.account_id, order.job_id, order.owner)
    reporter = Reporter(store, lease)
    threading.Thread(target=_listen, args=(told, reporter), name="listen", daemon=True).start()
    try:
        return _work(store, lease, reporter, order, parts)
    finally:
        reporter.close()
        store.close()


def _work(
    store: Store, lease: Lease, reporter: Reporter, order: WorkOrder, parts: Parts
) -> int:
    try:
        reporter.start()
        job = store.jobs.get(lease.account_id, lease.job_id)
        with alone_in(store.job_folder / job.id):
            if job.kind == evaluation.KIND:
                paths = {name: served.model for name, served in order.models.items()}
                evaluation_work.work_on(store, lease, job, reporter, paths, parts.evaluate)
            else:
                work_on(store, lease, job, reporter, order.models[job.model], parts)
        return 0
    except Stopped:
        with suppress(LeaseLostError):
            reporter.flush()
        store.jobs.release(lease)
        return 0
    except LeaseLostError:
        store.jobs.release(lease)
        return 0
    except OverloadedError as error:  # of the store, which may answer again
        reporter.warn(f"{error.message}; the work is taken up again")
        with suppress(FirefrontError):
            reporter.flush()
        return EXIT_FAILED
    except FirefrontError as error:
        with suppress(LeaseLostError):
            with suppress(FirefrontError):
                reporter.flush()
            fail(store, lease, error)
        return 0
    except Exception as error:
        traceback.print_exc()
        reporter.warn(f"Internal error ({type(error).__name__}); the work is taken up again")
        with suppress(FirefrontError):
            reporter.flush()
        return EXIT_FAILED


def be_modest() -> None:
    """Leave the machine to whoever serves: run when nobody else wants to, be the first to go when
    memory is short, leave no core file."""
    # Threads of torch that wait for each other must not burn the time of those that compute.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, signal.SIG_IGN)  # the end of its input stops it
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)
    with suppress(OSError):
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    if sys.platform == "linux" and os.uname().machine == "x86_64":
        libc = ctypes.CDLL(None)
        libc.syscall(_IOPRIO_SET, _IOPRIO_PROCESS, 0, _IOPRIO_IDLE)


def _listen(told: FileIO, reporter: Reporter) -> None:
    """Read letters to the end of the input, which ends the process, if need be at once."""
    while letter := told.read(1):
        if letter in (BUSY, IDLE):
            reporter.is_busy = letter == BUSY
        elif letter == LOOK:
            reporter.look()
    reporter.tell_to_stop()
    ended = threading.Timer(_OBEY_S, os._exit, (EXIT_FAILED,))
    ended.daemon = True
    ended.start()


if __name__ == "__main__":
    be_modest()
    sys.exit(main(Parts()))
