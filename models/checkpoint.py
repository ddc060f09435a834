"""A checkpoint on disk before any tensor is read: its folder, its configuration, its digests. Torch-free."""

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

TOKENIZER_FILES = ("tokenizer.model", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")
# Where those of transformers' fast tokenizers lie, and what they write a conversation with.
_FAST_TOKENIZER_FILES = (
    *("tokenizer.json", "chat_template.jinja", "chat_template.json", "vocab.json", "merges.txt", "vocab.txt"),
    *("spiece.model", "spm.model", "sentencepiece.bpe.model", "tiktoken.model", "tekken.json"),
)
# Far beyond any model, near enough that what is derived from it can be computed.
_MOST, _MOST_NUMBER = 1 << 24, 1e12
_MOST_HEADER = 100_000_000  # bytes, as safetensors itself allows
_SHOWN = 80  # characters of a wrong value
_HUB_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt"]


class CheckpointError(Exception):
    """The checkpoint cannot be served; the message is one line that names the file and what is wrong in it."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder with `config.json`, a tokenizer and safetensors; `revision` is the hub commit, None for a folder."""

    directory: Path
    revision: str | None = None


def locate(source: str) -> Checkpoint:
    """`source` is a directory or `ORG/REPO@REVISION`; a hub repository is downloaded, safetensors and JSON only.

    Raises CheckpointError when it is neither, or when the hub cannot be reached.
    """
    try:
        directory = Path(source).expanduser()
    except RuntimeError:  # nobody's home
        directory = Path(source)
    if source and directory.is_dir():
        return Checkpoint(directory)
    repository, _, revision = source.partition("@")
    if source.startswith((".", "/", "~")) or repository.count("/") != 1:
        raise CheckpointError(f"{source}: no such directory, and not a hub id of the form ORG/REPO@REVISION")
    if not revision:
        raise CheckpointError(f"{source}: pin the hub revision, as in {repository}@REVISION (a commit, tag or branch)")
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(repository, revision=revision, allow_patterns=_HUB_FILES)
    except Exception as error:
        raise CheckpointError(f"{source}: could not be downloaded: {_reason(error)}") from error
    # The hub's cache names the snapshot's folder by its commit.
    return Checkpoint(Path(folder), revision=Path(folder).name)


@dataclass(frozen=True, slots=True)
class Section:
    """One object of a configuration file, read key by key with the reference's default for an absent one."""

    where: str
    values: Mapping[str, object]

    def integer(self, key: str, default: int | None = None, *, least: int = 1, most: int = _MOST) -> int:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.error(key, f"an integer from {least} to {most}", value)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _MOST_NUMBER:
            raise self.error(key, f"a positive number of at most {_MOST_NUMBER:g}", value)
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "true or false", value)
        return value

    def choice(self, key: str, default: str | None, allowed: Iterable[str]) -> str:
        value, options = self._get(key, default), list(allowed)
        if not isinstance(value, str) or value not in options:
            raise self.error(key, "one of " + ", ".join(options), value)
        return value

    def text(self, key: str, default: str) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.error(key, "a string", value)
        return value

    def section(self, key: str) -> "Section":
        value = self._get(key, None)
        if not isinstance(value, Mapping):
            raise self.error(key, "an object", value)
        return Section(f"{self.where}: {key}", value)

    def error(self, key: str, expected: str, found: object) -> CheckpointError:
        shown = json.dumps(found)
        shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + " …"
        return CheckpointError(f"{self.where}: {key} must be {expected}, found {shown}")

    def _get(self, key: str, default: object) -> object:
        value = self.values.get(key)
        if value is None and default is None:
            raise CheckpointError(f"{self.where}: {key} is missing")
        return default if value is None else value


def read_json(path: Path) -> Section:
    """Raises CheckpointError when the file is missing, unreadable or not one JSON object."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: the file is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return Section(str(path), values)


def tensor_names(directory: Path) -> frozenset[str]:
    """What the folder's safetensors hold, by their index or their headers; nothing is verified.

    Raises CheckpointError for a file that cannot be read.
    """
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        return frozenset(read_json(index).section("weight_map").values)
    return frozenset(name for file in directory.glob("*.safetensors") for name in _names_in(file))


def _names_in(file: Path) -> list[str]:
    """A safetensors file begins with the length of its header, eight bytes, then the header as JSON."""
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            header = json.loads(opened.read(min(length, _MOST_HEADER)))
        return [name for name in header if name != "__metadata__"]
    except (OSError, ValueError, TypeError, RecursionError, struct.error) as error:
        raise CheckpointError(f"{file}: damaged, truncated or not safetensors: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def digest(paths: Iterable[Path]) -> str:
    """`sha256:…` over the sorted (file name, sha256) pairs, so that a renamed or changed file changes it."""
    lines = sorted(f"{path.name} {_file_digest(path)}\n" for path in paths)
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def tokenizer_digest(directory: Path) -> str:
    return digest(path for name in (*TOKENIZER_FILES, *_FAST_TOKENIZER_FILES) if (path := directory / name).is_file())


def weights_digest(directory: Path) -> str:
    return digest(directory.glob("*.safetensors"))


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
