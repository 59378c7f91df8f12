"""Errors that reach users. Each names the file, field or flag at fault and says what to do.

Owns the mapping from a kind of error to an HTTP status and an OpenAI error code.
Anything raised that is not a FirefrontError is a defect of ours and becomes a plain 500.
"""


class FirefrontError(Exception):
    """Base of every error meant for a user; `param` names the field or flag at fault."""

    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code


class RequestError(FirefrontError, ValueError):
    """The request itself is wrong; retrying it unchanged cannot help."""

    status = 400
    type = "invalid_request_error"


class ContextLengthError(RequestError):
    """Prompt plus requested output does not fit the model's context."""

    code = "context_length_exceeded"


class GrammarError(RequestError):
    """A grammar or schema that cannot be honoured, or that its matcher gave up in the middle."""

    code = "invalid_grammar"


class NotFoundError(RequestError):
    """A model, adapter or object that does not exist (or is not the caller's)."""

    status = 404
    code = "model_not_found"


class AuthError(FirefrontError):
    """The key is missing, unknown or revoked."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class OverloadedError(FirefrontError):
    """No room now (queue full, draining, replica restarting); try again after `retry_after_s`."""

    status = 503
    type = "overloaded_error"
    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StorageFullError(FirefrontError):
    """What was to be kept could not be written: the disk is full, over quota or read-only."""

    status = 507
    code = "storage_full"


class ReplicaError(FirefrontError):
    """The replica that ran the request died or failed in the middle of it."""

    status = 500
    code = "replica_failed"


class ModelFileError(FirefrontError, ValueError):
    """A model file is damaged or unsupported: says which file, which field, at which byte."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_model_file"

    def __init__(
        self, file: object, field: str, problem: str, *, offset: int | None = None
    ) -> None:
        where = f"{file}: {field}" + (f" at byte {offset}" if offset is not None else "")
        super().__init__(f"{where}: {problem}", param=field)
        self.file, self.field, self.offset = str(file), field, offset
