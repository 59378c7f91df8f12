"""The versions of a pipeline's model: which serves, which is tried, which may be gone back to.

Pure. Invariants: one version serves at most, none is the base; versions are numbered as they were
promoted and none is forgotten.
"""

import msgspec

from firefront.core.errors import RequestError


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A model that was promoted: `model` is its name (BASE:NAME), times in Unix seconds."""

    number: int
    model: str
    sha256: str
    run_id: str
    promoted_at: int


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """A model that a run tries on a share of the requests, since `started_at`."""

    model: str
    sha256: str
    run_id: str
    share: float
    started_at: int


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """`current`: the number of the version that serves; None: the base does."""

    all: list[Version] = []
    current: int | None = None
    trial: Trial | None = None

    @property
    def serving(self) -> Version | None:
        """The version that serves."""
        return None if self.current is None else self.all[self.current - 1]

    @property
    def models(self) -> set[str]:
        """The names of all that may be asked for again."""
        tried = [] if self.trial is None else [self.trial.model]
        return {*(version.model for version in self.all), *tried}

    def trying(self, trial: Trial) -> "Versions":
        """With a trial. RequestError if another run has one."""
        if self.trial is not None and self.trial.run_id != trial.run_id:
            raise RequestError(f"{self.trial.run_id} tries a version already")
        return msgspec.structs.replace(self, trial=trial)

    def dropped(self, run_id: str) -> "Versions":
        """Without the trial of this run."""
        if self.trial is None or self.trial.run_id != run_id:
            return self
        return msgspec.structs.replace(self, trial=None)

    def promoted(self, model: str, sha256: str, run_id: str, now: int) -> "Versions":
        """With a model that serves from now on; once for each run, however often it is said."""
        if any(version.run_id == run_id for version in self.all):
            return self.dropped(run_id)
        version = Version(
            number=len(self.all) + 1, model=model, sha256=sha256, run_id=run_id, promoted_at=now
        )
        return Versions(
            all=[*self.all, version], current=version.number,
            trial=self.dropped(run_id).trial,
        )  # fmt: skip

    def back_to(self, number: int) -> "Versions":
        """A version that was promoted before serves again; 0: the base. RequestError."""
        if not 0 <= number <= len(self.all):
            raise RequestError(
                f"version: there are {len(self.all)}; 0 is the base", param="version"
            )
        return msgspec.structs.replace(self, current=number or None)
