"""One job, from its files to an adapter that may be served.

Owns the order of the steps. Each leaves a file in the job's folder and is skipped where that file
is there, so a job that is taken up again goes on where it was. Invariants: an adapter gets its row
when all that speaks for it was done; whoever holds the folder's lock is alone in it.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from firefront.core.errors import OverloadedError, StorageFullError
from firefront.store.job_log import Entry
from firefront.store.jobs import Lease
from firefront.store.store import Store
from firefront.text.tokenizer import Tokenizer, load_tokenizer
from firefront.tuning.check import Checked, check_file
from firefront.tuning.reporter import Reporter
from firefront.tuning.request import TuningRequest, request_of

MAX_LEN = 2048  # tokens of an example; more is cut off
TRAINING, VALIDATION = "training.jsonl", "validation.jsonl"
_LOCK_LIMIT_S = 30.0
_PIECE_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the work is done with, so that tests may bring their own."""

    load_tokenizer: Callable[[str], Tokenizer] = load_tokenizer


def work_on(
    store: Store, lease: Lease, reporter: Reporter, model_path: str, parts: Parts
) -> None:
    """Do what is next for a leased job. FirefrontError: it has failed, and why; Stopped: it was
    paused or cancelled, or its worker is to end."""
    job = store.jobs.get(lease.account_id, lease.job_id)
    request = request_of(job)
    folder = store.job_folder / job.id
    with _alone_in(folder):
        tokenizer = parts.load_tokenizer(model_path)
        if job.status == "validating_files":
            _validate(store, lease, reporter, request, tokenizer, folder)


def _validate(
    store: Store,
    lease: Lease,
    reporter: Reporter,
    request: TuningRequest,
    tokenizer: Tokenizer,
    folder: Path,
) -> None:
    """Read and render every row; the job is then ready for training."""
    for param, name in (("training_file", TRAINING), ("validation_file", VALIDATION)):
        file_id = getattr(request, param)
        if file_id is None:
            continue
        filename = _fetch(store, lease.account_id, file_id, folder / name)
        found = check_file(
            folder / name,
            tokenizer,
            request.method,
            param=param,
            name=filename,
            max_len=MAX_LEN,
            on_row=reporter.check,
        )
        _tell(reporter, filename, found)
    reporter.flush()
    ready = Entry(message="Files validated, moving job to queued state")
    store.jobs.move(lease, "queued", events=[ready])


def _tell(reporter: Reporter, filename: str, found: Checked) -> None:
    reporter.say(
        f"{filename}: {found.num_rows} rows, {found.num_tokens} tokens, {found.num_labels} of them "
        f"learned, the longest row {found.longest}"
    )
    if found.cut:
        lines = ", ".join(map(str, found.cut[:10])) + (", ..." if len(found.cut) > 10 else "")
        reporter.warn(
            f"{filename}: {len(found.cut)} rows are longer than {MAX_LEN} tokens and are cut off "
            f"there: lines {lines}"
        )


def _fetch(store: Store, account_id: str, file_id: str, path: Path) -> str:
    """Copy a file of the store's to `path`; what it is called."""
    file, content = store.files.open(account_id, file_id)
    part = path.with_suffix(".part")
    with content, writable(part), part.open("wb") as copy:
        shutil.copyfileobj(content, copy, _PIECE_BYTES)
    os.rename(part, path)
    return file.filename


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """StorageFullError for what cannot be written."""
    try:
        yield
    except OSError as error:
        raise StorageFullError(
            f"{path}: cannot be written: {error.strerror}; free some space"
        ) from error


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """The folder, made and locked; another process may need a moment to leave it."""
    with writable(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline_s = time.monotonic() + _LOCK_LIMIT_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline_s:
                    raise OverloadedError(f"{folder}: another process works here") from None
                time.sleep(0.1)
        yield
    finally:
        os.close(fd)


