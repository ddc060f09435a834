"""A sequence classifier as the engine drives it."""

from collections.abc import Collection, Generator, Mapping, Sequence
from pathlib import Path

from models.prefix_cache import CacheCounts
from models.sequence_classifier import network
from models.sequence_classifier.network import SequenceClassifier
from models.sequence_classifier.plan import apart, computed
from models.sequence_classifier.plan import share as shared
from models.tokenizer import Ids
from service.batching import Waiting
from service.device_faults import guarded, raising_device_faults
from service.engine import Attempt, Features, Logits
from service.job import JobPicture, PictureKey
from service.scorers import Progress, Running


class ClassifierScorer:
    """Batches of one loaded classifier; `share` says whether what sequences begin with is computed once."""

    def __init__(self, classifier: SequenceClassifier, *, share: bool) -> None:
        self._classifier = classifier
        self._share = share and classifier.shares

    @property
    def counts(self) -> CacheCounts:
        """Nothing is kept from batch to batch."""
        return CacheCounts(0, 0, 0, 0, 0)

    def encode(self, picture: JobPicture, contents: Sequence[bytes]) -> Generator[None, None, Features]:
        raise TypeError("this model reads text alone")

    @raising_device_faults
    def begin(self, batch: Sequence[Waiting]) -> Attempt:
        ids = [entry.job.ids(index) for entry in batch for index in entry.candidates]
        return _Attempt(self._classifier, ids, share=self._share and not batch[0].job.plain)


class _Attempt:
    """The runs over a batch's sequences: parted where they differ, or each sequence whole."""

    pictures: Collection[PictureKey] = ()

    def __init__(self, classifier: SequenceClassifier, ids: Sequence[Ids], *, share: bool) -> None:
        self._classifier = classifier
        self._sequences = [network.read_part(classifier, one) for one in ids] if share else list(ids)
        self._runs = shared(self._sequences) if share else apart(self._sequences)
        self.computed: Sequence[int] = computed(self._runs, len(ids))

    def run(self, features: Mapping[PictureKey, Features]) -> Generator[None, None, list[Logits]]:
        return guarded(network.score(self._classifier, self._sequences, self._runs))

    def close(self) -> None:
        """Nothing is held."""


def load(directory: Path, running: Running, progress: Progress) -> ClassifierScorer:
    """Batch-invariant, every sequence is computed alone. Raises CheckpointError."""
    classifier = network.load(directory, running.dtype, running.device, progress)
    return ClassifierScorer(classifier, share=not running.batch_invariant)
