"""Texts that hold what rewards look for, whole and broken."""

from hypothesis import strategies as st

PIECES = (
    "<think>", "</think>", "<answer>", "</answer>", "<ans", "wer>", " ", "\n", "\t", "　", "[", "]", "[[", "]]", "{",
    "}", "},", "'Position': ", '"Confidence": ', "[100, 100, 300, 300]", "[300, 300, 100, 100]", "[0, 0, 1e308, 1e308]",
    "[1, 2, 3]", "0.9", "-3", "NaN", "Infinity", "true", "null", "1" * 500, "(100,100),(300,300)",
    "(300,300),(100,100)", "(0,0),(1000,1000)", "(9999,9999),(1,1)", "(", ")", ",", "No Objects",
    "no_objects", "rose", "Rose ", "_",
    "A", "(B)",
    "{'Position': [100, 100, 300, 300], 'Confidence': 0.9}", "{'Position': [110, 90, 310, 300], 'Confidence': 0.2}",
    "{'Position': [5, 5, 9, 9], 'Confidence': 0}", "{'Position': [100, 100, 300, 300], 'Confidence': NaN}",
)  # fmt: skip
PIECE = st.sampled_from(PIECES) | st.text(max_size=4)
TEXT = st.lists(PIECE, max_size=12).map("".join)
TAGGED = st.builds("<think>{}</think><answer>{}</answer>".format, TEXT, TEXT) | TEXT
ROW = st.builds(
    "{{'Position': [{}, {}, {}, {}], 'Confidence': {}}}".format,
    *[st.integers(-10, 30) | st.floats(-10, 30) | st.sampled_from([10**300, 1e300, -1e300])] * 4,
    st.floats(0, 1) | st.sampled_from([0, 1, -3, 100, float("nan")]),
)
BOXES = st.lists(ROW, max_size=6).map(lambda rows: f"<answer>[{', '.join(rows)}]</answer>")
