"""From a model's name to the replica that serves it.

Pure look-up. One replica a model for now: choosing among several is this class's work later.
"""

from collections.abc import Iterable

from firefront.core.errors import NotFoundError, RequestError
from firefront.fleet.replica import Replica


class Router:
    """Replicas by the name they serve, in the order given."""

    def __init__(self, replicas: Iterable[Replica]) -> None:
        self._replicas: dict[str, Replica] = {}
        for replica in replicas:
            if replica.name in self._replicas:
                message = f"--model: two are called {replica.name!r}; name each once"
                raise RequestError(message, param="model")
            self._replicas[replica.name] = replica

    @property
    def replicas(self) -> list[Replica]:
        return list(self._replicas.values())

    def find(self, model: str) -> Replica:
        """The replica for `model`; NotFoundError names what is served."""
        replica = self._replicas.get(model)
        if replica is None:
            served = ", ".join(self._replicas) or "none"
            message = f"model {model[:200]!r} does not exist; served: {served}"
            raise NotFoundError(message, param="model")
        return replica
