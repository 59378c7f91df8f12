"""What every generating endpoint does around its own words: admit, parse, run, answer.

Owns the headers that say what was ignored and how long it took, and the choice between a stream
and a whole answer.
"""

import urllib.parse
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from firefront.core.errors import FirefrontError, RequestError
from firefront.gateway import schemas
from firefront.gateway.fields import GenerationRequest, StreamOptions
from firefront.gateway.generate import Generation
from firefront.gateway.json_out import dumps
from firefront.gateway.leaving import unless_gone
from firefront.gateway.perf import perf_headers
from firefront.gateway.render import Prompt
from firefront.gateway.shapes import Keep, Shape, collect, stream
from firefront.gateway.state import Gateway, ServedModel
from firefront.gateway.streaming import KEEP_ALIVE, EventStream, error_frame
from firefront.gateway.task import Service

MAX_IGNORED_NAMED = 20
_Request = TypeVar("_Request", bound=msgspec.Struct)


class Exchange:
    """One request to a generating endpoint, from its body to its answer."""

    def __init__(self, request: Request) -> None:
        self.gateway: Gateway = request.app.state.gateway
        self.started_s = self.gateway.clock.now()
        self.request = request
        self.headers: dict[str, str] = {}
        self.body: dict[str, Any] = {}  # as it was sent
        self._ignored: list[str] = []

    async def parse(self, kind: type[_Request]) -> _Request:
        """Admit and read the request; what was ignored goes into the headers."""
        self.gateway.admit()
        self.body = await self.gateway.bodies.read_json(self.request)
        parsed, ignored = schemas.parse(self.body, kind)
        self.ignore(ignored)
        return parsed

    def ignore(self, names: list[str]) -> None:
        """Say in a header that these parameters change nothing; with ?strict=1 refuse them."""
        if not names:
            return
        if self.request.query_params.get("strict") in ("1", "true"):
            raise RequestError(
                f"{names[0][:100]}: unknown parameter",
                param=names[0][:100],
                code="unsupported_parameter",
            )
        self._ignored += names
        shown = self._ignored[:MAX_IGNORED_NAMED]
        named = [urllib.parse.quote(name[:64], safe="[]") for name in shown]
        more = ["..."] if len(self._ignored) > MAX_IGNORED_NAMED else []
        self.headers["x-firefront-ignored-params"] = ", ".join(named + more)

    async def generation(
        self, model: ServedModel, prompts: list[Prompt], service: Service, *, streamed: bool
    ) -> Generation:
        """The request's run on `model`, begun, once its grammar is known to do no harm."""
        for grammar, param in {p.grammar: p.grammar_param for p in prompts}.items():
            if grammar is not None:
                tried = (model.replica.name, model.renderer.tokenizer)
                await self.gateway.vetting.check(service.account_id, grammar, param, tried)
        self.gateway.admit()  # a drain may have begun while the prompt was rendered
        generation = Generation(
            self.gateway,
            model,
            prompts,
            started_s=self.started_s,
            streamed=streamed,
            service=service,
        )
        generation.start()
        return generation

    async def answer(
        self,
        generation: Generation,
        shape: Shape,
        parsed: GenerationRequest,
        keep: Keep | None = None,
    ) -> Response:
        """Run it and answer in the form asked for, once `keep` has kept it."""
        if parsed.stream:
            options = parsed.stream_options or StreamOptions()
            return self.events(stream(generation, shape, options, keep), close=generation.close)

        async def whole() -> dict[str, Any]:
            answer = shape.answer(await collect(generation))
            if keep is not None:
                await keep(answer)
            return answer

        return await self.whole(generation, whole())

    async def whole(
        self, generation: Generation, answer: Coroutine[Any, Any, dict[str, Any]]
    ) -> Response:
        """Run to the end; what comes of it, as JSON. A client that leaves ends it."""
        try:
            content = dumps(await unless_gone(self.request, answer))
        finally:
            generation.close()
        headers = {**self.headers, **perf_headers(generation)}
        return Response(content, headers=headers, media_type="application/json")

    def events(
        self,
        events: AsyncIterator[bytes],
        *,
        close: Callable[[], None] = lambda: None,
        on_error: Callable[[FirefrontError], bytes] = error_frame,
        keep_alive: bytes = KEEP_ALIVE,
    ) -> Response:
        """Server-sent events as they come. `close` is called whatever ends them, `on_error` words
        an error in their midst, `keep_alive` is sent where there is nothing to say for long."""
        return EventStream(
            events,
            close=close,
            keep_alive_s=self.gateway.settings.keep_alive_s,
            stall_limit_s=self.gateway.settings.stall_limit_s,
            headers=self.headers,
            error_frame=on_error,
            keep_alive=keep_alive,
        )
