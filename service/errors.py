"""Every way in which a call is refused, drawn once.

ServiceError
├── InvalidRequest 422          invalid_request   malformed, a wrong type, an unknown field, a count out of range
│   ├── CannotLoad              cannot_load       a checkpoint that cannot be served; what was served still is
│   └── Unscorable              unscorable        an item of a compatible route that never gets a score; says which
├── InvalidKey 401              invalid_key       no key, or one that is not known
├── NotAllowed 403              not_allowed       switched off here; the message says how to turn it on
├── NotFound 404
│   ├── UnknownRoute            unknown_route
│   ├── UnknownModel            unknown_model
│   ├── UnknownImage            unknown_image     names the ids to send again
│   ├── UnknownJob              unknown_job       never was, is forgotten, or is another key's
│   └── UnknownUpload           unknown_upload
├── WrongMethod 405             wrong_method
├── BodyTimeout 408             body_timeout      an upload that stands still
├── Conflict 409
│   ├── IdReused                id_reused         the same id with another body
│   ├── OtherWeights            other_weights     the weights asked for are not those served
│   ├── GroupsMissing           groups_missing    a chunk that does not join on to the job's groups
│   └── JobClosed               job_closed        takes no more groups
├── TooLarge 413
│   ├── BodyTooLarge            body_too_large
│   ├── ImageTooLarge           image_too_large   bytes
│   ├── TooManyPixels           too_many_pixels
│   └── JobTooLarge             job_too_large     groups of a job or of a chunk, bytes of a line
├── UnsupportedImage 415        unsupported_image
├── Overloaded 429              overloaded        with Retry-After
│   └── QuotaExceeded           quota_exceeded    the key has sent too much, or has too much waiting
├── InternalError 500           internal_error    a bug; the log has the request id
├── Unavailable 503             unavailable       loading, draining, no worker; with Retry-After
│   └── NotScored               not_scored        an item of a compatible route that may get a score next time
└── DeadlineExceeded 504        deadline_exceeded
"""

from typing import ClassVar

from steelyard.schema import ErrorDetail, ErrorResponse, ErrorType

_LONGEST_MESSAGE = 8000


class ServiceError(Exception):
    """A call that is answered with an error object; the message is for the caller."""

    status: ClassVar[int]
    code: ClassVar[str]
    type: ClassVar[ErrorType] = "invalid_request_error"
    retry_after_s: int | None = None

    def __init__(self, message: str) -> None:
        # It may quote what the caller sent, which may be the whole body.
        message = message if len(message) <= _LONGEST_MESSAGE else message[:_LONGEST_MESSAGE] + " …"
        super().__init__(message)
        self.message = message

    def body(self, request_id: str) -> ErrorResponse:
        detail = ErrorDetail(code=self.code, message=self.message, type=self.type, request_id=request_id)
        return ErrorResponse(error=detail)


class InvalidRequest(ServiceError):
    status, code = 422, "invalid_request"


class CannotLoad(InvalidRequest):
    code = "cannot_load"


class Unscorable(InvalidRequest):
    code = "unscorable"


class InvalidKey(ServiceError):
    status, code, type = 401, "invalid_key", "authentication_error"


class NotAllowed(ServiceError):
    status, code, type = 403, "not_allowed", "permission_error"


class NotFound(ServiceError):
    status = 404


class UnknownRoute(NotFound):
    code = "unknown_route"


class UnknownModel(NotFound):
    code = "unknown_model"


class UnknownImage(NotFound):
    code = "unknown_image"


class UnknownJob(NotFound):
    code = "unknown_job"


class UnknownUpload(NotFound):
    code = "unknown_upload"


class WrongMethod(ServiceError):
    status, code = 405, "wrong_method"


class BodyTimeout(ServiceError):
    status, code = 408, "body_timeout"


class Conflict(ServiceError):
    status = 409


class IdReused(Conflict):
    code = "id_reused"


class OtherWeights(Conflict):
    code = "other_weights"


class GroupsMissing(Conflict):
    code = "groups_missing"


class JobClosed(Conflict):
    code = "job_closed"


class TooLarge(ServiceError):
    status = 413


class BodyTooLarge(TooLarge):
    code = "body_too_large"


class ImageTooLarge(TooLarge):
    code = "image_too_large"


class TooManyPixels(TooLarge):
    code = "too_many_pixels"


class JobTooLarge(TooLarge):
    code = "job_too_large"


class UnsupportedImage(ServiceError):
    status, code = 415, "unsupported_image"


class Overloaded(ServiceError):
    status, code, type = 429, "overloaded", "overloaded_error"

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QuotaExceeded(Overloaded):
    code = "quota_exceeded"


class InternalError(ServiceError):
    status, code, type = 500, "internal_error", "server_error"


class Unavailable(ServiceError):
    status, code, type = 503, "unavailable", "server_error"
    retry_after_s = 2


class NotScored(Unavailable):
    code = "not_scored"


class DeadlineExceeded(ServiceError):
    status, code, type = 504, "deadline_exceeded", "server_error"
