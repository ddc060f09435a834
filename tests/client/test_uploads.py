"""What the client remembers of its uploads."""

from steelyard.uploads import Uploads


def test_each_upload_is_later_than_every_one_before() -> None:
    uploads = Uploads()
    assert uploads.last("a") == 0
    uploads.record("a")
    uploads.record("b")
    first, second = uploads.last("a"), uploads.last("b")
    uploads.record("a")
    assert 0 < first < second < uploads.last("a")


def test_those_used_longest_ago_are_forgotten_first() -> None:
    uploads = Uploads(most_remembered=2)
    uploads.record("a")
    uploads.record("b")
    assert uploads.last("a")
    uploads.record("c")
    assert uploads.last("b") == 0
    assert uploads.last("a")
    assert uploads.last("c")
