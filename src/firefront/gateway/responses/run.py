"""One response from its start to its end: generated, told, kept.

Owns the order of these: a response is kept before its last event is sent, so whoever has seen the
end can go on from it. Knows no HTTP. Invariant: a response whose id was told and that is to be kept
is kept however it ends.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from firefront.core.errors import FirefrontError, NotFoundError, ReplicaError
from firefront.gateway.generate import Generation
from firefront.gateway.perf import perf_metrics
from firefront.gateway.responses.answer import Envelope, usage_of
from firefront.gateway.responses.events import Numbering, beginning, ending, error_event
from firefront.gateway.responses.output import Output
from firefront.gateway.responses.stored import said
from firefront.gateway.state import Gateway
from firefront.gateway.task import Service

if TYPE_CHECKING:
    from firefront.store.responses import Said  # heavy
    from firefront.store.store import Store  # heavy

Json = dict[str, Any]


class Record:
    """The row of one response, unless not `is_stored`, and what of it goes to its conversation.
    `store` None: nothing is kept."""

    def __init__(
        self,
        store: "Store | None",
        service: Service,
        envelope: Envelope,
        input_items: list[Json],
        *,
        is_stored: bool,
    ) -> None:
        self._store = store
        self._is_stored = is_stored
        self._service = service
        self._envelope = envelope
        self._input_items = input_items
        self._is_created = False

    async def keep(self, response: Json) -> None:
        """Write the response as it is now."""
        if self._store is None:
            return
        try:
            await self._store.run(self._write, self._store, response)
        except NotFoundError:  # deleted while it ran
            pass

    def _write(self, store: "Store", response: Json) -> None:
        account_id, envelope = self._service.account_id, self._envelope
        appended = self._said(response)
        if not self._is_stored:
            if appended is not None:
                store.conversations.append(account_id, *appended)
        elif self._is_created:
            store.responses.update(
                account_id,
                envelope.id,
                status=response["status"],
                response=response,
                said=appended,
            )
        else:
            self._is_created = True
            store.responses.create(
                account_id,
                id=envelope.id,
                created_at=envelope.created_at,
                model=envelope.model,
                priority=self._service.priority,
                status=response["status"],
                previous_response_id=envelope.previous_response_id,
                metadata=envelope.metadata,
                input_items=self._input_items,
                response=response,
                said=appended,
            )

    def _said(self, response: Json) -> "Said | None":
        """What goes to the conversation: question and answer, once there is one."""
        conversation_id = self._envelope.conversation_id
        if conversation_id is None or response["status"] not in ("completed", "incomplete"):
            return None
        return conversation_id, [*self._input_items, *said(response)]


class Run:
    """`generation` told as the response of `envelope`. Take `whole` or `frames`, once."""

    def __init__(
        self,
        gateway: Gateway,
        generation: Generation,
        envelope: Envelope,
        record: Record,
        *,
        tells_summary: bool,
        tells_perf: bool,
    ) -> None:
        self.id = envelope.id
        self._gateway = gateway
        self._generation = generation
        self._envelope = envelope
        self._record = record
        self._tells_summary = tells_summary
        self._tells_perf = tells_perf
        self._output = self._new_output()
        self._finish: str | None = None
        self._numbering = Numbering()
        self._is_told = False  # a client may know the id
        self._is_kept = False  # or being kept
        self._is_cancelled = False

    async def whole(self) -> Json:
        """Run to the end; the response, kept."""
        async for _ in self._grown():
            pass
        self._end_output()
        response = self._finished()
        await self._keep(response)
        return response

    async def frames(self, *, at_once: bool = False) -> AsyncIterator[list[bytes]]:
        """Run to the end, whatever the end is; the events as they come.

        Nothing is said before there is something, unless `at_once`: an error before that is
        raised, and is the plain answer.
        """
        first = self.beginning()
        if at_once:
            self._is_told = True
            yield self._numbering.frames(first)
        try:
            async for events in self._grown():
                if not self._is_told:
                    self._is_told, events = True, [*first, *events]
                yield self._numbering.frames(events)
        except FirefrontError as error:
            if not self._is_told:
                raise
            events, response = self._broken(error)
        else:
            events = self._end_output()
            response = self._finished()
        if not self._is_told:
            self._is_told, events = True, [*first, *events]
        await self._keep(response)
        yield self._numbering.frames([*events, ending(response)])

    def beginning(self) -> list[Json]:
        return beginning(self.in_progress())

    def in_progress(self) -> Json:
        return self._envelope.response("in_progress")

    async def begin_record(self) -> None:
        """Keep it as in progress, for whoever asks while it runs."""
        await self._record.keep(self.in_progress())

    def cancel(self) -> None:
        """End it as cancelled, with what it has said."""
        self._is_cancelled = True
        self._generation.fail(ReplicaError("the response was cancelled"))

    def error_frames(self, error: FirefrontError) -> list[bytes]:
        """The last events when something else than the generation ends the stream."""
        events, response = self._broken(error)
        first = [] if self._is_told else self.beginning()
        self._is_told = True
        self._keep_detached(response)
        return self._numbering.frames([*first, *events, ending(response)])

    def close(self) -> None:
        """Free what is still out; a response that was left is kept as cancelled."""
        self._generation.close()
        if self._is_told and not self._is_kept:
            self._keep_detached(self._response("cancelled"))

    async def _grown(self) -> AsyncIterator[list[Json]]:
        async for grown in self._generation.growths():
            events = []
            for item in grown:
                if isinstance(item, int):  # it begins anew; nothing of it was told
                    self._output = self._new_output()
                else:
                    self._finish = item.finish
                    events += self._output.grow(item)
            if events:
                yield events

    def _new_output(self) -> Output:
        stem = self.id.removeprefix("resp_")
        return Output(stem, tells_summary=self._tells_summary)

    def _end_output(self) -> list[Json]:
        return self._output.end(is_complete=self._finish != "length")

    def _finished(self) -> Json:
        status = "incomplete" if self._finish == "length" else "completed"
        return self._response(status)

    def _broken(self, error: FirefrontError) -> tuple[list[Json], Json]:
        """The events before the last, and the response, when it did not come to its end."""
        if self._is_cancelled:
            return [], self._response("cancelled")
        return [error_event(error)], self._response("failed", error)

    def _response(self, status: str, error: FirefrontError | None = None) -> Json:
        more = {"perf_metrics": perf_metrics(self._generation)} if self._tells_perf else {}
        return self._envelope.response(
            status, self._output.items(), usage=usage_of(self._generation), error=error, **more
        )

    async def _keep(self, response: Json) -> None:
        """Keep it, to the end even if the client goes meanwhile."""
        self._is_kept = True
        failures: list[Exception] = []

        async def keep() -> None:
            try:
                await self._record.keep(response)
            except Exception as error:
                failures.append(error)

        await asyncio.shield(self._gateway.detach(keep()))
        if failures:
            raise failures[0]

    def _keep_detached(self, response: Json) -> None:
        self._is_kept = True
        self._gateway.detach(self._record.keep(response))
