"""From a model's name to the replica that serves it.

Pure look-up. One replica a model for now: choosing among several is this class's work later.
"""

import re
from collections.abc import Iterable

from firefront.core.errors import NotFoundError, RequestError
from firefront.fleet.replica import Replica

_ACCOUNT = re.compile(r"accounts/[^/]{1,200}/models/")


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

    def get(self, name: str) -> Replica | None:
        """The replica of exactly this name."""
        return self._replicas.get(name)

    def find(self, model: str) -> Replica:
        """The replica for `model`, which may also be spelled accounts/A/models/MODEL, and have
        #DEPLOYMENT after it. NotFoundError names what is served."""
        for name in spellings(model):
            if (replica := self._replicas.get(name)) is not None:
                return replica
        base, colon, adapter = spellings(model)[-1].rpartition(":")
        if colon and base in self._replicas:
            why = f"{base} has no adapter {adapter[:200]!r}"
            message = f"model {model[:200]!r} does not exist: {why}"
            raise NotFoundError(message, param="model")
        served = ", ".join(self._replicas) or "none"
        message = f"model {model[:200]!r} does not exist; served: {served}"
        raise NotFoundError(message, param="model")


def spellings(model: str) -> list[str]:
    """The names that `model` may stand for, the likeliest first, the plainest last."""
    bare = model[found.end() :] if (found := _ACCOUNT.match(model)) else model
    return [model, bare, bare.partition("#")[0]]
