"""Whose words an error is in: Anthropic's clients get Anthropic's shape, all others OpenAI's.

Decided by what was asked for, so that it also holds where no endpoint was reached.
"""

from starlette.responses import Response
from starlette.types import Scope

from firefront.core.errors import FirefrontError
from firefront.gateway import errors
from firefront.gateway.anthropic import errors as anthropic_errors

_MESSAGES = "/v1/messages"


def speaks_anthropic(scope: Scope) -> bool:
    """Whether this request comes from a client of Anthropic's API."""
    path = scope["path"]
    if path == _MESSAGES or path.startswith(_MESSAGES + "/"):
        return True
    return any(name == b"anthropic-version" for name, _ in scope["headers"])


def error_response(scope: Scope, error: FirefrontError) -> Response:
    """The error in the words of the API that was asked."""
    if speaks_anthropic(scope):
        return anthropic_errors.error_response(error, scope["state"]["request_id"])
    return errors.error_response(error)
