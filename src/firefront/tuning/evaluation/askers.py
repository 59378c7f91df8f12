"""The models of one evaluation, one after the other: on a server, or loaded into this process.

Owns which engine is loaded. Invariant: at most one is, so two models need no more memory than the
larger; a base and its adapters share one.
"""

import gc
from pathlib import Path

from firefront.core.deployment import load_deployment
from firefront.engine.engine import Engine
from firefront.text.tokenizer import Tokenizer
from firefront.tuning.evaluation.adapters import adapter_tokenizer, find_adapter
from firefront.tuning.evaluation.ask import Asker
from firefront.tuning.evaluation.ask_engine import EngineAsker
from firefront.tuning.evaluation.ask_server import STREAMS, ServerAsker


class Askers:
    """`url`: of the server that has all of the models; None: this process."""

    def __init__(
        self,
        url: str | None,
        *,
        key: str | None = None,
        streams: int | None = None,
        threads: int = 0,
    ) -> None:
        self._url = url
        self._key = key
        self._threads = threads
        self.streams = streams if url is None else streams or STREAMS
        self._loaded: tuple[str, Engine, Tokenizer, tuple[float, float] | None] | None = None

    def open(self, model: str, adapter: str | None = None, name: str | None = None) -> Asker:
        """The model, with an adapter; in this process it may be called by another `name`. Askers
        that were opened before are not used any more, unless they are of the same model."""
        if self._url is not None:
            full = model
            if adapter is not None:
                full = f"{model}:{Path(adapter.removeprefix(f'{model}:')).name}"
            return ServerAsker(self._url, full, key=self._key, streams=self.streams or STREAMS)
        engine, tokenizer, prices = self._engine(model)
        ref, full = None, model
        if adapter is not None:
            ref = find_adapter(model, adapter)
            engine.check_adapter(ref)
            tokenizer = adapter_tokenizer(tokenizer, ref)
            full = f"{model}:{ref.name}"
        return EngineAsker(engine, tokenizer, name or full, ref, prices)

    def close(self) -> None:
        self._loaded = None

    def _engine(self, model: str) -> tuple[Engine, Tokenizer, tuple[float, float] | None]:
        from firefront.engine.load import build_engine

        if self._loaded is None or self._loaded[0] != model:
            self._loaded = None  # before the next one is loaded
            gc.collect()  # an engine refers to itself
            deployment = load_deployment(
                None, model=model, threads=self._threads or None, max_num_seqs=self.streams
            )
            prices = deployment.token_prices
            self._loaded = (
                model,
                *build_engine(deployment, hold_s=0.25),
                None if prices is None else (float(prices[0]), float(prices[1])),
            )
        return self._loaded[1:]
