"""The client's errors are the server's, and what is no error object has one too."""

import pickle
from typing import TypeVar

import pytest

import service.errors
import steelyard.errors
from steelyard.errors import NotFound, ServiceError, SteelyardError, Unavailable, class_of
from steelyard.exchange import Answer, failure_of

Error = TypeVar("Error", bound=Exception)


def tree(root: type[Error]) -> list[type[Error]]:
    children: list[type[Error]] = root.__subclasses__()
    return [root, *(each for child in children for each in tree(child))]


@pytest.mark.parametrize("theirs", tree(service.errors.ServiceError)[1:], ids=lambda cls: cls.__name__)
def test_every_error_of_the_server_has_its_class_here(theirs: type[service.errors.ServiceError]) -> None:
    ours = getattr(steelyard.errors, theirs.__name__)
    assert [cls.__name__ for cls in ours.__bases__] == [cls.__name__ for cls in theirs.__bases__]
    assert ours.status == theirs.status
    code = getattr(theirs, "code", None)
    assert ours.code == code
    assert class_of(theirs.status, code) is ours


def test_the_drawing_names_every_class_and_no_other() -> None:
    drawn = steelyard.errors.__doc__ or ""
    names = {line.strip("│├└─ ").split(" ")[0] for line in drawn.splitlines()[2:]} - {""}
    assert names == {cls.__name__ for cls in tree(SteelyardError) if cls.__module__ == "steelyard.errors"}


def answer(status: int, content: bytes = b"", **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


def error_object(code: str) -> bytes:
    return b'{"error":{"code":"%s","message":"why","type":"server_error","request_id":"r1","new":1}}' % code.encode()


def test_an_error_object_becomes_its_class_with_all_it_says() -> None:
    failure = failure_of(answer(503, error_object("unavailable"), retry_after="2"))
    assert type(failure) is Unavailable
    assert (failure.status, failure.code, failure.message) == (503, "unavailable", "why")
    assert (failure.request_id, failure.retry_after_s) == ("r1", 2.0)
    assert str(failure) == "why [503 unavailable, request r1]"


def test_an_unknown_code_is_the_nearest_class_by_status() -> None:
    failure = failure_of(answer(404, error_object("unknown_adapter")))
    assert type(failure) is NotFound
    assert failure.code == "unknown_adapter"
    assert type(failure_of(answer(418, error_object("teapot")))) is ServiceError


@pytest.mark.parametrize("content", [b"", b"<html>\x1b[31mBad\n gateway</html>", b"\xff\xfe", b"[]", b"null"])
def test_a_page_of_a_proxy_is_an_error_without_a_code(content: bytes) -> None:
    failure = failure_of(answer(502, content, x_request_id="r2"))
    assert type(failure) is ServiceError
    assert (failure.status, failure.code, failure.request_id) == (502, None, "r2")
    assert str(failure).isprintable()


def test_a_redirect_says_where_to() -> None:
    failure = failure_of(answer(307, b"", location="https://scores.example/models"))
    assert "https://scores.example/models" in str(failure)


def test_a_success_is_no_failure() -> None:
    assert failure_of(answer(200)) is None
    assert failure_of(answer(201)) is None


def test_an_error_crosses_processes_whole() -> None:
    failure = failure_of(answer(503, error_object("unavailable"), retry_after="2"))
    copy = pickle.loads(pickle.dumps(failure))
    assert type(copy) is Unavailable
    assert (str(copy), copy.retry_after_s) == (str(failure), 2.0)
