"""The adapter that a name means for a model in this process: a folder, or one that is registered.

Reads no weights; the engine does. Knows no models but by name.
"""

from pathlib import Path

from firefront.core.errors import NotFoundError
from firefront.core.messages import AdapterRef
from firefront.text.tokenizer import Tokenizer
from firefront.weights.adapter_store import TEMPLATE, adapter_sha256, read_template


def find_adapter(base: str, given: str) -> AdapterRef:
    """A folder with PEFT's files if there is one, else the local account's adapter of that base
    (a spec), by its own name or as BASE:NAME.

    ModelFileError for a folder that lacks a file, NotFoundError if it is neither.
    """
    folder = Path(given)
    if folder.is_dir():
        name = folder.absolute().name
        return AdapterRef(name=name, sha256=adapter_sha256(folder), path=str(folder.absolute()))
    from firefront.store.store import Store  # heavy
    from firefront.store.tables import LOCAL_ACCOUNT
    from firefront.weights import fetch
    from firefront.weights.adapter_store import AdapterStore

    store = Store.open()
    try:
        name = fetch.model_name(base)  # that adapters are registered under
        row = store.adapters.find(LOCAL_ACCOUNT, name, given.removeprefix(f"{name}:"))
        path = AdapterStore(store.adapter_folder).path(row.sha256)
        return AdapterRef(name=row.name, sha256=row.sha256, path=str(path))
    except NotFoundError:
        raise NotFoundError(
            f"adapter: {given!r} is neither a folder nor an adapter of {base}; "
            "firefront adapters ls shows those that there are",
            param="adapter",
        ) from None
    finally:
        store.close()


def adapter_tokenizer(tokenizer: Tokenizer, ref: AdapterRef) -> Tokenizer:
    """The base's, with the chat template that lies beside the adapter, if one does."""
    text = read_template(Path(ref.path))
    if text is None or text == tokenizer.info()["chat_template"]:
        return tokenizer
    return tokenizer.with_template(text, str(Path(ref.path) / TEMPLATE))
