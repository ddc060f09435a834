import os
import shutil
from pathlib import Path

import pytest

from models.checkpoint import (
    TOKENIZER_FILES,
    Checkpoint,
    CheckpointError,
    digest,
    locate,
    read_json,
    tokenizer_digest,
    weights_digest,
)
from tests.golden import TINY_VISUAL_PRM


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*address: object) -> None:
        raise AssertionError(f"the test looks up {address[0]}")

    monkeypatch.setattr("socket.getaddrinfo", refuse)


def refusal(source: str) -> str:
    with pytest.raises(CheckpointError) as raised:
        locate(source)
    message = str(raised.value)
    assert "\n" not in message
    assert source in message
    return message


def test_a_directory_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate(str(tmp_path)) == Checkpoint(tmp_path)
    (tmp_path / "org" / "model@v1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert locate("org/model@v1") == Checkpoint(Path("org/model@v1"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/org") == Checkpoint(tmp_path / "org")


@pytest.mark.parametrize("source", ["/no/such", "./no/such", "../no", "~/no/such", "nothing", "a/b/c", "a/b/c@main"])
def test_what_is_neither_a_directory_nor_a_hub_id_is_refused(source: str) -> None:
    assert "no such directory" in refusal(source)


def test_the_home_of_nobody_is_refused() -> None:
    assert "no such directory" in refusal("~no-such-user/model")


def test_a_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    assert "no such directory" in refusal(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("source", ["OpenGVLab/VisualPRM-8B", "OpenGVLab/VisualPRM-8B@"])
def test_a_hub_id_without_a_revision_is_refused(source: str) -> None:
    assert "OpenGVLab/VisualPRM-8B@REVISION" in refusal(source)


@pytest.mark.parametrize("source", ["a b/model@main", "org/mo..del@main", "@x/y@main"])
def test_a_hub_id_that_cannot_be_one_is_refused(source: str) -> None:
    refusal(source)


def test_a_digest_follows_names_and_content_not_order(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"1")
    second.write_bytes(b"2")
    found = digest([first, second])
    assert found.startswith("sha256:")
    assert len(found) == len("sha256:") + 64
    assert digest([second, first]) == found
    second.write_bytes(b"3")
    assert digest([first, second]) != found
    second.write_bytes(b"2")
    assert digest([first, second]) == found
    assert digest([first, second.rename(tmp_path / "third")]) != found
    assert digest([first]) != found


def test_a_digest_does_not_depend_on_the_folder(tmp_path: Path) -> None:
    copied = Path(shutil.copytree(TINY_VISUAL_PRM, tmp_path / "elsewhere"))
    assert weights_digest(copied) == weights_digest(TINY_VISUAL_PRM)
    assert tokenizer_digest(copied) == tokenizer_digest(TINY_VISUAL_PRM)


@pytest.mark.parametrize("name", [*TOKENIZER_FILES, "model-00001-of-00002.safetensors"])
def test_a_digest_is_changed_by_any_of_its_files(name: str, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(TINY_VISUAL_PRM, tmp_path / "copied"))
    of = weights_digest if name.endswith(".safetensors") else tokenizer_digest
    before = of(copied)
    with (copied / name).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    changed = of(copied)
    (copied / name).rename(copied / ("renamed-" + name))
    assert len({before, changed, of(copied)}) == 3


def test_a_section_says_where_it_is(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"outer": {"inner": "x"}}', encoding="utf-8")
    with pytest.raises(CheckpointError) as raised:
        read_json(file).section("outer").integer("inner")
    assert str(raised.value).startswith(f"{file}: outer: inner must be an integer")
    assert str(raised.value).endswith('found "x"')
