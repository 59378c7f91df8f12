"""Work that ends when its client leaves, or when something else happens first.

Knows nothing of what the work is.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

_T = TypeVar("_T")


async def disconnected(request: Request) -> None:
    """Return when the client has gone. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def unless(
    work: Coroutine[Any, Any, _T], *signals: Coroutine[Any, Any, None]
) -> _T:
    """Await `work`, but stop it and raise ClientDisconnect if one of `signals` returns first."""
    me = asyncio.current_task()
    assert me is not None
    is_over = False

    def end(_: asyncio.Task[None]) -> None:
        nonlocal is_over
        if not is_over:
            is_over = True
            me.cancel()

    watching = [asyncio.create_task(signal) for signal in signals]
    for task in watching:
        task.add_done_callback(end)
    try:
        return await work
    except asyncio.CancelledError:
        if is_over and me.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        for task in watching:
            task.remove_done_callback(end)
            task.cancel()


async def unless_gone(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """Await `work`, but stop it and raise ClientDisconnect if the client goes first."""
    return await unless(work, disconnected(request))
