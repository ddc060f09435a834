"""The reference's slow `InternLM2Tokenizer`, and the control text in what users write. Torch-free."""

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sentencepiece import SentencePieceProcessor

from models.checkpoint import CheckpointError, Section, read_json
from models.token_cache import TextKey, TokenCache

Ids = npt.NDArray[np.int32]

_SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": None}
_SPECIAL_TOKENS |= {"pad_token": "</s>", "cls_token": None, "mask_token": None}
_UNUSED_PIECE = re.compile(r"\[UNUSED_TOKEN_\d+\]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_REWRITTEN = "  a  ﬁ①\t b "
_EMPTY = np.empty(0, np.int32)
# Bounds of what is remembered: 64 Ki words of up to 32 characters are about 15 MB.
_KNOWN_WORDS, _LONG_WORD, _LONG_TEXT = 65_536, 32, 100_000


class Segment(NamedTuple):
    """A stretch of a text that is tokenised as one with its neighbours; control tokens in trusted text are meant."""

    text: str
    trusted: bool = False


class EncodedText(NamedTuple):
    """Ids, (tokens,) int32, and the distinct control text that users wrote.

    That is also where it takes a neighbouring segment to spell it.
    """

    ids: Ids
    control: tuple[str, ...]


class TooManyTokens(Exception):
    """The text has more tokens than it may."""


class Tokenizer:
    """Text to ids; safe to use from several threads.

    What is between control tokens is encoded word by word, and short words are remembered: that takes a quarter
    of sentencepiece's time and gives its ids, because words end only where no piece of the vocabulary goes on.

    Control text is what becomes a control token: the content of an added token, or a piece of the vocabulary
    named `[UNUSED_TOKEN_<n>]`. A lone surrogate is encoded as U+FFFD: it has no UTF-8, so the reference raises.

    With a `cache` the very text that was encoded a while ago, trusted in the same places, is not encoded again.
    """

    def __init__(
        self,
        model: SentencePieceProcessor,
        added: Mapping[str, int],
        *,
        add_bos: bool = True,
        cache: TokenCache | None = None,
    ) -> None:
        pieces: list[str] = model.id_to_piece(list(range(model.get_piece_size())))
        unused = {piece: id_ for id_, piece in enumerate(pieces) if _UNUSED_PIECE.fullmatch(piece)}
        self._model = model
        self._control_ids = unused | dict(added)
        self._alone: dict[int, Ids] = {id_: np.array([id_], np.int32) for id_ in self._control_ids.values()}
        self._control = re.compile("|".join(map(re.escape, self._control_ids)) or "(?!)")
        self._word = _word_pattern([*_text_pieces(model, pieces), *added])
        self._known_words: dict[str, bytes] = {}
        self._cache = cache
        self._name_in_cache = object()
        self._shares = _shares(pieces)
        self.size = max([len(pieces) - 1, *added.values()]) + 1
        self.bos: Ids = np.array([model.bos_id()] if add_bos else [], np.int32)
        _check(model, pieces, added, frozenset(self._control_ids))

    def control_id(self, token: str) -> int:
        """The id of a control token, for a template to place. Raises CheckpointError when there is none."""
        if token not in self._control_ids:
            raise CheckpointError(f"the tokenizer has no added token {token}")
        return self._control_ids[token]

    def piece_id(self, piece: str) -> int:
        """The id of a bare piece. Raises CheckpointError when the vocabulary lacks it."""
        id_: int = self._model.piece_to_id(piece)
        if id_ == self._model.unk_id():
            raise CheckpointError(f"tokenizer.model has no piece {piece!r}")
        return id_

    def encode(
        self, segments: Sequence[Segment], *, literal: bool = False, max_tokens: int | None = None
    ) -> EncodedText:
        """Encode the joined text, without BOS; merges cross from segment to segment.

        `literal` spells users' control text out in plain pieces: it is cut behind its first character, and the
        parts are encoded apart. Raises TooManyTokens, without encoding a part whose characters alone prove it.
        """
        text, users = "".join([segment.text for segment in segments]), _user_spans(segments)
        if self._cache is None or not text:
            return self._encode(text, users, literal, max_tokens)
        key: TextKey = (self._name_in_cache, text, literal, tuple(users))
        known = self._cache.get(key)
        if known is None:
            encoded = self._encode(text, users, literal, max_tokens)
            self._cache.put(key, (encoded.ids.tobytes(), encoded.control))
            return encoded
        ids, control = np.frombuffer(known[0], np.int32), known[1]
        if max_tokens is not None and len(ids) > max_tokens:
            raise TooManyTokens
        return EncodedText(ids, control)

    def seam(self, text: str) -> int:
        """Where the last word of `text` begins: it can be cut there, whatever stands before and after. May be 0."""
        return len(text) - len(self._word.findall(text)[-1])

    def _encode(self, text: str, users: list[tuple[int, int]], literal: bool, max_tokens: int | None) -> EncodedText:
        if self._control.search(text) is None:
            return EncodedText(self._encode_plain(text, max_tokens), ())
        parts, room = [], max_tokens
        for part in self._split(text, users if literal else []):
            parts.append(self._encode_plain(part, room) if isinstance(part, str) else self._alone[part])
            if room is not None:
                room -= len(parts[-1])
                if room < 0:
                    raise TooManyTokens
        found = [match.group() for match in self._control.finditer(text) if _overlaps(match, users)]
        return EncodedText(np.concatenate(parts), tuple(dict.fromkeys(found)))

    def _split(self, text: str, users: list[tuple[int, int]]) -> Iterator[str | int]:
        """Plain parts, none empty, and control ids in order; control text that overlaps `users` is cut instead."""
        start = 0
        for match in self._control.finditer(text):
            cut = match.start() + 1 if _overlaps(match, users) else match.start()
            if start < cut:
                yield text[start:cut]
            start = cut
            if cut == match.start():
                yield self._control_ids[match.group()]
                start = match.end()
        if start < len(text):
            yield text[start:]

    def _encode_plain(self, text: str, room: int | None) -> Ids:
        if not text:
            return _EMPTY
        if not text.isascii():
            text = _LONE_SURROGATE.sub("\ufffd", text)
        if room is not None and len(text) > room and self._least_tokens(text) > room:
            raise TooManyTokens
        ids: Ids = self._model.encode_as_numpy(text) if len(text) > _LONG_TEXT else self._encode_words(text, room)
        if room is not None and len(ids) > room:
            raise TooManyTokens
        return ids

    def _encode_words(self, text: str, room: int | None) -> Ids:
        known, words = self._known_words.get, self._word.findall(text)
        # A word is a token or more.
        if room is not None and len(words) > room:
            raise TooManyTokens
        return np.frombuffer(b"".join([known(word) or self._learn(word) for word in words]), np.int32)

    def _learn(self, word: str) -> bytes:
        # A list is quicker to get than an array for so few; "i" is 32 bits wherever sentencepiece has wheels.
        ids = array("i", self._model.encode(word)).tobytes()
        if len(self._known_words) >= _KNOWN_WORDS:
            self._known_words.clear()
        if len(word) <= _LONG_WORD:
            self._known_words[word] = ids
        return ids

    def _least_tokens(self, text: str) -> int:
        """A token is no longer than the longest piece that holds any one of its characters."""
        return int(self._shares[np.frombuffer(text.encode("utf-32-le"), np.uint32)].sum(dtype=np.float64))


def load_tokenizer(directory: Path, cache: TokenCache | None = None) -> Tokenizer:
    """Read `tokenizer.model` and the JSON files beside it, as transformers 4.37 does.

    Raises CheckpointError for a missing or broken file and for settings that are not reproduced here.
    """
    path = directory / "tokenizer.model"
    model = SentencePieceProcessor()
    try:
        model.load(str(path))
    except (OSError, RuntimeError) as error:
        problem = "not readable as a sentencepiece model" if path.is_file() else "the file is missing"
        raise CheckpointError(f"{path}: {problem}") from error
    config = _read_optional(directory / "tokenizer_config.json")
    config.choice("tokenizer_class", "InternLM2Tokenizer", ["InternLM2Tokenizer", "InternLM2TokenizerFast"])
    for flag in ("add_eos_token", "split_special_tokens"):
        if config.flag(flag, False):
            raise config.error(flag, "false", True)
    added = _added_tokens(directory, config, model)
    try:
        return Tokenizer(model, added, add_bos=config.flag("add_bos_token", True), cache=cache)
    except CheckpointError as error:
        raise CheckpointError(f"{directory}: {error}") from None


def _added_tokens(directory: Path, config: Section, model: SentencePieceProcessor) -> dict[str, int]:
    """Added tokens by content: those listed, then special tokens that are not, at their piece or at the end."""
    named = dict(config.values)
    if config.values.get("added_tokens_decoder") is not None:
        decoder = config.section("added_tokens_decoder")
        listed = {_content(token, decoder.where): _id(id_, decoder) for id_, token in decoder.values.items()}
    else:
        file = _read_optional(directory / "added_tokens.json")
        listed = {content: _id(id_, file) for content, id_ in file.values.items()}
        named |= _read_optional(directory / "special_tokens_map.json").values
    missing = [token for token in _special_tokens(named, config.where) if token not in listed]
    if missing:
        names = {id_: content for content, id_ in listed.items()}
        vocabulary = {names.get(id_, model.id_to_piece(id_)): id_ for id_ in range(model.get_piece_size())} | listed
        for token in missing:
            listed[token] = vocabulary.setdefault(token, len(vocabulary))
    return {content: id_ for content, id_ in listed.items() if content}


def _special_tokens(named: Mapping[str, object], where: str) -> list[str]:
    values = [named.get(key, default) for key, default in _SPECIAL_TOKENS.items()]
    additional = named.get("additional_special_tokens")
    if isinstance(additional, list):
        values += additional
    return list(dict.fromkeys(_content(value, where) for value in values if value is not None))


def _content(token: object, where: str) -> str:
    """A token is a string, or an object with its content; flags that strip its surroundings are refused."""
    if isinstance(token, str):
        return token
    if not isinstance(token, Mapping):
        raise CheckpointError(f"{where}: an added token must be a string or an object, found {token!r}")
    section = Section(where, token)
    for flag in ("lstrip", "rstrip", "single_word"):
        if section.flag(flag, False):
            raise section.error(flag, f"false for {token.get('content')}", True)
    return section.text("content", "")


def _id(value: object, where: Section) -> int:
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise CheckpointError(f"{where.where}: {value!r} is not the id of a token")
    return value


def _read_optional(path: Path) -> Section:
    return read_json(path) if path.is_file() else Section(str(path), {})


def _shares(pieces: Sequence[str]) -> npt.NDArray[np.float32]:
    """For each code point, one over the length of the longest piece that holds it: its share of a token."""
    longest: dict[str, int] = {}
    for piece in sorted(pieces, key=len):
        longest |= dict.fromkeys(piece, len(piece))
    shares = np.ones(0x110000, np.float32)
    shares[[ord(character) for character in longest]] = 1 / np.array(list(longest.values()), np.float32)
    shares[ord(" ")] = shares[ord("▁")]
    return shares


def _text_pieces(model: SentencePieceProcessor, pieces: Sequence[str]) -> list[str]:
    """The pieces that plain text can become: neither bytes, which no text merges to, nor what is control text."""
    return [
        piece
        for id_, piece in enumerate(pieces)
        if not (model.is_byte(id_) or model.is_control(id_) or model.is_unknown(id_) or _UNUSED_PIECE.fullmatch(piece))
    ]


def _word_pattern(vocabulary: Sequence[str]) -> re.Pattern[str]:
    """Words, between which nothing merges: a digit that stands in no longer piece is one, and a word ends before it.

    A word also ends before a space, but not behind a character that some piece or added token has before a space.
    """
    glued = set(re.findall("(.)[ ▁]", "\0".join(vocabulary), re.DOTALL)) | {" ", "▁"}
    before_space = "".join(map(re.escape, sorted(glued)))
    longer = "".join(piece for piece in vocabulary if len(piece) > 1)
    alone = "".join(digit for digit in "0123456789" if digit not in longer)
    return re.compile(
        f"[{alone}]|.[^ {alone}]*+(?:(?<=[{before_space}]) [^ {alone}]*+)*+"
        if alone
        else f".[^ ]*+(?:(?<=[{before_space}]) [^ ]*+)*+",
        re.DOTALL,
    )


def _check(
    model: SentencePieceProcessor, pieces: Sequence[str], added: Mapping[str, int], tokens: frozenset[str]
) -> None:
    """Refuse what would make a text's ids depend on more than where its control tokens stand."""
    if model.normalize(_REWRITTEN) != _REWRITTEN.replace(" ", "▁"):
        raise CheckpointError("tokenizer.model: it rewrites text (normalisation or a dummy prefix)")
    if not model.is_byte(model.piece_to_id("<0x00>")) or model.bos_id() < 0:
        raise CheckpointError("tokenizer.model: it has no byte pieces, or no BOS")
    if len(set(added.values())) < len(added):
        raise CheckpointError("two added tokens have the same id")
    for content, id_ in added.items():
        if id_ < len(pieces) and pieces[id_] != content and not _UNUSED_PIECE.fullmatch(pieces[id_]):
            raise CheckpointError(f"the added token {content} has the id of the piece {pieces[id_]!r}")
    firsts = {token[0] for token in tokens}
    for token in tokens:
        if len(token) == 1 or "▁" in token or firsts & set(token[1:]) or _has_prefix(token, tokens):
            raise CheckpointError(f"the added token {token} could overlap another, or plain text")


def _has_prefix(token: str, tokens: frozenset[str]) -> bool:
    return any(token[:length] in tokens for length in range(1, len(token)))


def _user_spans(segments: Sequence[Segment]) -> list[tuple[int, int]]:
    spans, start = [], 0
    for segment in segments:
        if segment.text and not segment.trusted:
            spans.append((start, start + len(segment.text)))
        start += len(segment.text)
    return spans


def _overlaps(match: re.Match[str], spans: Sequence[tuple[int, int]]) -> bool:
    # Spans are in order and apart, and there may be as many as matches.
    before = bisect_left(spans, match.end(), key=itemgetter(0))
    return before > 0 and match.start() < spans[before - 1][1]
