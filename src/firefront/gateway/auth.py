"""Who may call, and who may listen.

Until keys exist there is one caller, the machine's owner, and so one rule: listen on loopback only,
unless someone says that whoever reaches the port may use it.
"""

import ipaddress

from starlette.requests import Request

from firefront.core.errors import RequestError

LOCAL_ACCOUNT = "local"
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def account_of(request: Request) -> str:
    """Whose request it is."""
    return LOCAL_ACCOUNT


class NotAllowedError(RequestError):
    """Something that this server does not do for this caller, or for no request at all."""

    status = 403
    code = "permission_denied"


def check_owner(*, is_private: bool) -> None:
    """Raise NotAllowedError unless the caller is the machine's owner: what names files of this
    machine is for nobody else."""
    if not is_private:
        raise NotAllowedError(
            "only the owner of the machine may do this, and this server takes everyone who reaches "
            "its port: use `firefront adapters` on the machine itself, then restart the server"
        )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_bind(host: str, *, insecure: bool, require_key: bool) -> None:
    """Raise RequestError if listening on `host` would let strangers in."""
    if require_key:
        raise RequestError(
            "--require-key: keys do not exist in this version; leave it out and keep --host on "
            "127.0.0.1",
            param="require_key",
        )
    if not is_loopback(host) and not insecure:
        raise RequestError(
            f"--host {host}: would let everyone who reaches this port use the models, without a "
            "key. Use --host 127.0.0.1, or add --insecure if the network in front is trusted",
            param="host",
        )


def allowed_hosts(host: str, extra: list[str]) -> frozenset[str] | None:
    """Host headers that pass. On loopback a foreign name is a web page reaching in by DNS."""
    if not is_loopback(host):
        return None
    return LOOPBACK_NAMES | {host.lower()} | {name.lower() for name in extra}
