"""Every way in which a call fails, drawn once; below ServiceError it is the server's own tree.

SteelyardError
├── InvalidCall                 cannot be sent as it is; nothing was
│   └── InvalidPicture
├── ConnectionFailed            refused, reset, or closed before the answer
├── TimedOut                    no answer within the caller's own timeout
├── BadAnswer                   a success that this client cannot read
└── ServiceError                an answer that is not a success: status, code, request_id, retry_after_s
    ├── InvalidRequest 422      invalid_request
    │   ├── CannotLoad          cannot_load
    │   └── Unscorable          unscorable
    ├── InvalidKey 401          invalid_key
    ├── NotAllowed 403          not_allowed
    ├── NotFound 404
    │   ├── UnknownRoute        unknown_route
    │   ├── UnknownModel        unknown_model
    │   ├── UnknownImage        unknown_image
    │   ├── UnknownJob          unknown_job
    │   └── UnknownUpload       unknown_upload
    ├── WrongMethod 405         wrong_method
    ├── BodyTimeout 408         body_timeout
    ├── Conflict 409
    │   ├── IdReused            id_reused
    │   ├── OtherWeights        other_weights
    │   ├── GroupsMissing       groups_missing
    │   └── JobClosed           job_closed
    ├── TooLarge 413
    │   ├── BodyTooLarge        body_too_large
    │   ├── ImageTooLarge       image_too_large
    │   ├── TooManyPixels       too_many_pixels
    │   └── JobTooLarge         job_too_large
    ├── UnsupportedImage 415    unsupported_image
    ├── Overloaded 429          overloaded
    │   └── QuotaExceeded       quota_exceeded
    ├── InternalError 500       internal_error
    ├── Unavailable 503         unavailable
    │   └── NotScored           not_scored
    └── DeadlineExceeded 504    deadline_exceeded
"""

from collections.abc import Iterator


class SteelyardError(Exception):
    """Whatever this client raises on purpose; the message is for people."""

    retry_after_s: float | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidCall(SteelyardError):
    """The call cannot be sent as it is."""


class InvalidPicture(InvalidCall):
    """Not one of the forms in which a picture is given."""


class ConnectionFailed(SteelyardError):
    """The server was not reached, or hung up before it answered."""


class TimedOut(SteelyardError):
    """No answer within the caller's own timeout; the server may still be scoring."""


class BadAnswer(SteelyardError):
    """A success whose body is not what the wire says."""


class ServiceError(SteelyardError):
    """An answer that is not a success; `code` is None when it is no error object, for example a proxy's page."""

    status: int | None = None
    code: str | None = None
    request_id: str | None = None

    def __str__(self) -> str:
        named = f"{self.status} {self.code or ''}".strip()
        return f"{self.message} [{named}{f', request {self.request_id}' if self.request_id else ''}]"


class InvalidRequest(ServiceError):
    status, code = 422, "invalid_request"


class CannotLoad(InvalidRequest):
    code = "cannot_load"


class Unscorable(InvalidRequest):
    code = "unscorable"


class InvalidKey(ServiceError):
    status, code = 401, "invalid_key"


class NotAllowed(ServiceError):
    status, code = 403, "not_allowed"


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
    status, code = 429, "overloaded"


class QuotaExceeded(Overloaded):
    code = "quota_exceeded"


class InternalError(ServiceError):
    status, code = 500, "internal_error"


class Unavailable(ServiceError):
    status, code = 503, "unavailable"


class NotScored(Unavailable):
    code = "not_scored"


class DeadlineExceeded(ServiceError):
    status, code = 504, "deadline_exceeded"


def class_of(status: int, code: str | None) -> type[ServiceError]:
    """The class with this code, else the widest one with this status, else ServiceError."""
    by_code = (cls for cls in _tree(ServiceError) if code is not None and cls.code == code)
    by_status = (cls for cls in _tree(ServiceError) if cls.status == status)
    return next(by_code, next(by_status, ServiceError))


def _tree(root: type[ServiceError]) -> Iterator[type[ServiceError]]:
    """A class before its subclasses."""
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)
