"""From a deployment to an engine ready to step: model files, executor, tokenizer.

The only place where the engine meets a particular executor.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firefront.core.clock import SystemClock
from firefront.core.deployment import Deployment
from firefront.core.errors import RequestError
from firefront.core.messages import AdapterRef, ModelFacts
from firefront.core.step import BLOCK_SIZE
from firefront.engine.adapters import AdapterReader, Adapters
from firefront.engine.coalesce import FLUSH_S
from firefront.engine.config import EngineConfig
from firefront.engine.engine import Engine
from firefront.engine.grammar import Grammars
from firefront.engine.preparing import Preparing, ReadNow
from firefront.text.tokenizer import Tokenizer, gguf_tokenizer, load_tokenizer

if TYPE_CHECKING:
    from firefront.backends.cpu.executor import CpuExecutor
    from firefront.backends.cpu.footprint import Footprint
    from firefront.engine.worker import Loaded
    from firefront.weights.checkpoint import Checkpoint

# Rows of a draft's head that are computed. Ids follow the order in which the tokenizer's merges
# were learnt, so the first are the most frequent; others and special tokens are never drafted.
DRAFT_ROWS = 32768


@dataclass(frozen=True)
class _Parts:
    """What an engine is made of."""

    executor: "CpuExecutor"
    draft: "CpuExecutor | None"
    tokenizer: Tokenizer
    grammars: Grammars
    config: EngineConfig
    facts: ModelFacts
    max_adapters: int

    def read_adapter(self, ref: AdapterRef) -> Any:
        """Packed for the executor. ModelFileError says what is wrong with the files."""
        from firefront.weights.adapter import open_adapter

        shapes = self.executor.adapter_shapes
        return self.executor.pack_adapter(open_adapter(Path(ref.path), shapes))

    def engine(self, reader: AdapterReader) -> Engine:
        adapters = Adapters(
            self.executor,
            reader,
            max_adapters=self.max_adapters,
            max_bytes=self.executor.footprint.adapter_bytes,
        )
        return Engine(
            self.executor,
            self.tokenizer,
            self.config,
            SystemClock(),
            self.draft,
            self.grammars,
            adapters,
        )


def build_engine(
    deployment: Deployment, *, seed: int = 0, hold_s: float = FLUSH_S
) -> tuple[Engine, Tokenizer]:
    """Load the deployment's model. FirefrontErrors say what is wrong with model or machine."""
    parts = _load(deployment, seed=seed, hold_s=hold_s)
    return parts.engine(ReadNow(parts.read_adapter)), parts.tokenizer


def _load(deployment: Deployment, *, seed: int = 0, hold_s: float = FLUSH_S) -> _Parts:
    from firefront.backends.cpu.executor import load_checkpoint, load_checkpoints
    from firefront.weights.checkpoint import open_checkpoint
    from firefront.weights.fetch import resolve

    path, draft = resolve(deployment.model), None
    # The vocabulary, which takes much memory only while it is read, comes before the weights; a
    # file's header is read once for both.
    with open_checkpoint(path) as checkpoint:
        facts, tokenizer = checkpoint.facts, _tokenizer(checkpoint, path)
        if deployment.draft:
            with open_checkpoint(_draft_path(deployment, tokenizer)) as beside:
                executor, draft = load_checkpoints(
                    checkpoint, beside, deployment, head_rows=DRAFT_ROWS
                )
        else:
            executor = load_checkpoint(checkpoint, deployment)
    config = EngineConfig.from_deployment(deployment, seed=seed, hold_s=hold_s)
    grammars = Grammars(tokenizer, executor.vocab_size, config.eos_ids)
    return _Parts(executor, draft, tokenizer, grammars, config, facts, deployment.max_adapters)


def needed_memory(checkpoint: "Checkpoint", deployment: Deployment) -> "Footprint":
    """What `build_engine` would take here and now for a model that is open, with its draft model.
    Fetches nothing: NotFoundError if the draft model is not here."""
    from firefront.backends.cpu.executor import footprint
    from firefront.weights.checkpoint import open_checkpoint
    from firefront.weights.fetch import find_here

    if not deployment.draft:
        return footprint(checkpoint, deployment)
    _check_speculation(deployment)
    with open_checkpoint(find_here(deployment.draft)) as draft:
        return footprint(checkpoint, deployment, draft, head_rows=DRAFT_ROWS)


def _check_speculation(deployment: Deployment) -> None:
    if deployment.speculation == "off":
        raise RequestError("draft: speculation is off; leave one of them out", param="draft")


def _draft_path(deployment: Deployment, tokenizer: Tokenizer) -> Path:
    """The draft model's files. RequestError if it could not draft for this model."""
    from firefront.weights.fetch import resolve

    _check_speculation(deployment)
    path = resolve(deployment.draft)
    idx = tokenizer.differs_from(load_tokenizer(path))
    if idx is not None:
        raise RequestError(
            f"draft: the vocabulary of {deployment.draft} is not that of {deployment.model}: token "
            f"{idx} differs; a draft model needs the same tokens",
            param="draft",
        )
    return path


def _tokenizer(checkpoint: "Checkpoint", path: Path) -> Tokenizer:
    if checkpoint.kind == "gguf":
        return gguf_tokenizer(checkpoint.metadata, path)
    return load_tokenizer(path)


def load_engine(deployment: Deployment) -> "Loaded":
    """What a replica needs: the engine, and what its Hello says."""
    from firefront.engine.worker import Loaded
    from firefront.weights.fetch import model_name

    parts = _load(deployment)
    preparing = Preparing(parts.grammars, parts.read_adapter, parts.executor.make_room_ready)
    engine = parts.engine(preparing)
    return Loaded(
        engine=engine,
        model=model_name(deployment.model),
        max_model_len=engine.max_model_len,
        num_blocks=engine.stats().num_blocks,
        block_size=BLOCK_SIZE,
        preparing=preparing,
        facts=parts.facts,
    )
