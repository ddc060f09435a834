"""Another reading of the grammar: whether a sentence is true of a picture, from its words alone."""

from demo.facts import COLORS, SHAPES, Facts

_NEGATIONS = {"not", "no"}


def words_of(text: str) -> list[str]:
    return text.lower().replace(".", " ").replace(",", " ").replace(":", " ").replace("?", " ").split()


def is_true(text: str, question: str, facts: Facts) -> bool:
    """A statement about the picture, or `Answer: …` to the question."""
    words = words_of(text)
    if words[0] == "answer":
        return words[1] == answer_of(question, facts)
    named = [word for word in words if word in COLORS or word in SHAPES]
    assert len(named) == 1, text
    return (named[0] in (facts.shape, facts.color)) != bool(_NEGATIONS & set(words))


def answer_of(question: str, facts: Facts) -> str:
    words = words_of(question)
    if words[0] == "what":
        return facts.color if "color" in words else facts.shape
    (named,) = [word for word in words if word in COLORS or word in SHAPES]
    present = named in (facts.shape, facts.color)
    return "yes" if present != bool(_NEGATIONS & set(words)) else "no"
