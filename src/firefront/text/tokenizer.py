"""Text to token ids and back, for one model: a folder in Hugging Face layout or a .gguf file.

Owns where special tokens may come from: the framing of a text and the chat template, never the
characters of a user. The merging itself is the `tokenizers` library's.
Invariant: `decode` is the concatenation of `token_bytes`, so any split of a stream decodes alike.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firefront.core.errors import ModelFileError, RequestError
from firefront.text.control import Guard, TokenFinder, clean, mapped_strings, strings_of
from firefront.text.detokenizer import Detokenizer
from firefront.text.gguf_vocab import vocabulary_from_gguf
from firefront.text.hf_folder import vocabulary_from_folder
from firefront.text.infill import infill_ids
from firefront.text.messages import normal_messages
from firefront.text.plain import PlainEncoder
from firefront.text.vocab import SPACE_MARK, AddedToken, Vocabulary
from firefront.weights.gguf import GGUFFile

if TYPE_CHECKING:
    from firefront.text.answer_format import AnswerFormat
    from firefront.text.template import ChatTemplate

_SPECIAL_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token")


def load_tokenizer(path: str | Path) -> "Tokenizer":
    """The tokenizer of a .gguf file or of a folder with tokenizer.json.

    Raises ModelFileError naming the file and the field that is missing, damaged or unknown.
    """
    path = Path(path)
    if path.is_dir():
        return Tokenizer(vocabulary_from_folder(path))
    if not path.exists():
        raise ModelFileError(path, "file", "does not exist")
    file = GGUFFile(path)
    try:
        return gguf_tokenizer(file.metadata, path)
    finally:
        file.close()


def gguf_tokenizer(metadata: Mapping[str, Any], path: str | Path) -> "Tokenizer":
    """The tokenizer of a .gguf file whose header has been read already."""
    return Tokenizer(vocabulary_from_gguf(metadata, str(path)))


class Tokenizer:
    """One model's tokenizer. Safe to share between threads: nothing changes after construction."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocab = vocabulary
        self.vocab_size = len(vocabulary.token_bytes)
        self.bos_id = vocabulary.bos_id
        self.eos_ids = vocabulary.eos_ids
        self.special_ids = frozenset(token.id for token in vocabulary.added if token.control)
        self._control = tuple(token for token in vocabulary.added if token.control)
        self._markup = self._template_markup()
        self._first, self._later = (
            PlainEncoder(
                vocabulary.source, backend, self._markup, self.special_ids, vocabulary.token_bytes
            )
            for backend in (vocabulary.backend, vocabulary.continuation)
        )

    def with_template(self, text: str, source: str) -> "Tokenizer":
        """The same with the chat template `text` of the file `source`, as an adapter may bring."""
        return Tokenizer(replace(self._vocab, templates={"default": text}, source=source))

    def differs_from(self, other: "Tokenizer") -> int | None:
        """The first id that is not the same token in both vocabularies, None if all are."""
        own, others = self._vocab.token_bytes, other._vocab.token_bytes
        if own == others and self.special_ids == other.special_ids:
            return None
        for idx, (a, b) in enumerate(zip(own, others, strict=False)):
            if a != b or (idx in self.special_ids) != (idx in other.special_ids):
                return idx
        return min(len(own), len(others))

    # Text to ids.

    def encode(
        self, text: str, add_special: bool = True, *, parse_special: bool = False
    ) -> list[int]:
        """Token ids of `text`. Special tokens spelled out in it are plain text.

        `add_special` frames it as the model wants (usually a BOS or nothing). `parse_special` lets
        special tokens in `text` count: only for text whose author may write control tokens, such
        as a fill-in-the-middle prompt. Lone surrogates become U+FFFD.
        """
        finder = self._any_added if parse_special else self._plain_added
        ids = list(self._ids(finder.split(clean(text))))
        if not add_special:
            return ids
        prefix = list(self._vocab.prefix_ids)
        if parse_special and prefix and ids[: len(prefix)] == prefix:
            prefix = []
        return [*prefix, *ids, *self._vocab.suffix_ids]

    def encode_rest(self, text: str) -> list[int]:
        """Token ids of text that goes on from other text; special tokens in it are plain text."""
        return list(self._later.ids(text))

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continues_last: bool = False,
        **kwargs: Any,
    ) -> list[int]:
        """Token ids of a conversation rendered by the model's own template.

        `continues_last`: end after the text of the last message, for the answer to go on with it.

        Special tokens count where the template writes them; in messages, tools and `kwargs` they
        are plain text. BOS is there exactly if the template writes it, as in transformers.
        Raises RequestError if the model has no template or the template refuses the messages.
        """
        template = self._own_template()
        conversation, extras = _cleaned(template, messages, tools, kwargs)
        guard = Guard(self._markup, [*strings_of(conversation), *strings_of(extras)])
        # The assistant's own markup in earlier turns (<think>, <tool_call>) is the model's format.
        own = Guard(self._control, [], mark=guard.mark)
        guarded = [
            mapped_strings(message, own.text if message.get("role") == "assistant" else guard.text)
            for message in conversation
        ]
        text = template.render(
            guarded,
            mapped_strings(extras["tools"], guard.text),
            add_generation_prompt,
            mapped_strings(extras["kwargs"], guard.text),
        )
        if continues_last:
            text = _up_to_last(text, guarded[-1].get("content"))
        pieces: Iterator[str | int] = (
            guard.unmarked(piece) if isinstance(piece, str) else piece
            for piece in self._any_added.split(text)
        )
        ids = list(self._ids(pieces))
        return [*self._vocab.prefix_ids, *ids] if template.is_generic else ids

    def chat_text(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continues_last: bool = False,
        **kwargs: Any,
    ) -> str:
        """The text that `encode_chat` tokenizes, for people and tools to look at. It no longer says
        which special tokens the template wrote and which a message spelled out."""
        template = self._own_template()
        conversation, extras = _cleaned(template, messages, tools, kwargs)
        text = template.render(
            conversation, extras["tools"], add_generation_prompt, extras["kwargs"]
        )
        return _up_to_last(text, conversation[-1].get("content")) if continues_last else text

    def info(self) -> dict[str, Any]:
        """What a client needs to stand in for this tokenizer, under the names of
        tokenizer_config.json."""
        vocab, template = self._vocab, self.chat_template
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **{name: vocab.special_texts.get(name) for name in _SPECIAL_NAMES},
            "chat_template": None if template is None else template.default_text,
            "vocab_size": self.vocab_size,
        }

    def encode_infill(self, prefix: str, suffix: str) -> list[int]:
        """Token ids after which the model writes what is between `prefix` and `suffix`; special
        tokens spelled out in them are plain text. RequestError if it was not made for this."""
        return infill_ids(
            self._vocab.added, lambda text: self.encode(text, False), prefix, suffix
        )

    def _ids(self, pieces: Iterable[str | int]) -> Iterator[int]:
        """Ids of plain pieces (str) and of tokens found between them (int), in order."""
        encoder = self._first
        for piece in pieces:
            if isinstance(piece, int):
                yield piece
            elif piece:
                yield from encoder.ids(piece)
            encoder = self._later

    # Ids to text.

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token adds to a text. None for ids past the vocabulary: models pad their
        logits with tokens that have no text."""
        if token_id < 0:
            raise ValueError(f"token {token_id}: ids are not negative")
        return self._vocab.token_bytes[token_id] if token_id < self.vocab_size else b""

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD."""
        detokenizer = self.detokenizer(skip_special)
        return detokenizer.push_all(ids) + detokenizer.flush()

    def detokenizer(self, skip_special: bool = True, *, continues: bool = False) -> Detokenizer:
        """A decoder for one stream. `continues` says that the stream goes on from a prompt, so the
        space before a SentencePiece word is text; without it the pieces equal `decode`."""
        return Detokenizer(
            self._vocab.token_bytes,
            self.special_ids if skip_special else frozenset(),
            strips_space=self._vocab.strips_space and not continues,
        )

    # What is derived from the vocabulary.

    def _own_template(self) -> "ChatTemplate":
        template = self.chat_template
        if template is None:
            raise RequestError(
                "this model has no chat template; use the completions API", param="messages"
            )
        return template

    @cached_property
    def chat_template(self) -> "ChatTemplate | None":
        """Made when first asked for: completions need neither it nor its library."""
        from firefront.text.template import GENERIC_CHATML, GENERIC_TOKENS, ChatTemplate

        vocab = self._vocab
        if vocab.templates:
            return ChatTemplate(vocab.templates, vocab.source, vocab.special_texts)
        texts = {token.text for token in self._control}
        if texts >= GENERIC_TOKENS:
            return ChatTemplate({"default": GENERIC_CHATML}, vocab.source, {}, is_generic=True)
        return None

    @cached_property
    def answer_format(self) -> "AnswerFormat":
        """How this model marks thoughts and calls, from its own template and vocabulary."""
        from firefront.text.answer_format import answer_format

        template = self.chat_template
        return answer_format(
            template.text if template is not None and not template.is_generic else "",
            self._vocab.added,
        )

    def _template_markup(self) -> tuple[AddedToken, ...]:
        """Control tokens, and the user-defined ones that the template writes (<tool_response>).

        White space is none of these: Gemma has tokens for runs of it, and every template has runs.
        """
        sources = "\n".join(self._vocab.templates.values())
        if not sources and self.chat_template is not None:
            sources = self.chat_template.text
        return tuple(
            token
            for token in self._vocab.added
            if token.control
            or (len(token.text) > 1 and not _is_blank(token.text) and token.text in sources)
        )

    @cached_property
    def _any_added(self) -> TokenFinder:
        markup = {token.id for token in self._markup}
        return TokenFinder(token for token in self._vocab.added if token.id in markup)

    @cached_property
    def _plain_added(self) -> TokenFinder:
        return TokenFinder(token for token in self._markup if not token.control)


def _cleaned(
    template: "ChatTemplate",
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None,
    kwargs: dict[str, Any],
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The conversation, and its tools and settings, as `template` takes them."""
    normal = normal_messages(messages, keep_parts=template.takes_parts)
    conversation = mapped_strings(normal, clean)
    return conversation, mapped_strings({"tools": tools, "kwargs": kwargs}, clean)


def _up_to_last(text: str, content: Any) -> str:
    """`text` up to the end of the last message's content, which the template may have trimmed."""
    if isinstance(content, list):
        content = content[-1].get("text") if content else None
    if isinstance(content, str):
        for spelling in (content, content.rstrip(), content.strip()):
            if spelling and (start := text.rfind(spelling)) >= 0:
                return text[: start + len(spelling)]
    raise RequestError(
        "messages: the model's chat template does not show the last message as it is",
        param="messages",
    )


def _is_blank(text: str) -> bool:
    return not text.replace(SPACE_MARK, " ").strip()
