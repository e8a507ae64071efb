"""What is kept of open files stays within the budget, and fairly so."""

from hypothesis import given
from hypothesis import strategies as st

from procview.fs.texts import KeptTexts


def test_keeps_and_drops() -> None:
    texts = KeptTexts(100)
    texts.keep(1, 10, b"x" * 40, delivered=False)
    assert texts.get(1, 10) == b"x" * 40
    texts.keep(1, 10, b"y", delivered=False)
    assert (texts.get(1, 10), texts.held_bytes) == (b"y", 1)
    texts.drop(1, 10)
    texts.drop(1, 10)
    assert (texts.get(1, 10), texts.held_bytes) == (None, 0)


def test_the_owner_with_most_loses_first() -> None:
    texts = KeptTexts(100)
    texts.keep(1, 10, b"x" * 20, delivered=False)
    for handle in range(20, 30):
        texts.keep(2, handle, b"x" * 30, delivered=False)
    assert texts.get(1, 10) is not None
    assert texts.get(2, 29) is not None
    assert texts.get(2, 20) is None


def test_delivered_texts_go_before_those_still_being_read() -> None:
    texts = KeptTexts(100)
    texts.keep(1, 10, b"x" * 40, delivered=False)
    texts.keep(1, 11, b"x" * 40, delivered=True)
    texts.keep(1, 12, b"x" * 40, delivered=False)
    assert [texts.get(1, handle) is not None for handle in (10, 11, 12)] == [True, False, True]


def test_least_recently_used_goes_first() -> None:
    texts = KeptTexts(100)
    texts.keep(1, 10, b"x" * 40, delivered=False)
    texts.keep(1, 11, b"x" * 40, delivered=False)
    texts.get(1, 10)
    texts.keep(1, 12, b"x" * 40, delivered=False)
    assert [texts.get(1, handle) is not None for handle in (10, 11, 12)] == [True, False, True]


def test_a_text_beyond_the_budget_is_not_kept() -> None:
    texts = KeptTexts(100)
    texts.keep(1, 10, b"x" * 50, delivered=False)
    texts.keep(1, 11, b"x" * 101, delivered=False)
    assert (texts.get(1, 10), texts.get(1, 11)) == (b"x" * 50, None)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["keep", "drop", "get"]),
            st.integers(0, 3),
            st.integers(0, 5),
            st.integers(0, 60),
            st.booleans(),
        )
    )
)
def test_never_wrong_and_never_over_budget(steps: list[tuple[str, int, int, int, bool]]) -> None:
    texts = KeptTexts(100)
    newest: dict[tuple[int, int], bytes] = {}
    for number, (what, owner, handle, size, delivered) in enumerate(steps):
        if what == "keep":
            newest[owner, handle] = bytes([number % 256]) * size
            texts.keep(owner, handle, newest[owner, handle], delivered=delivered)
        elif what == "drop":
            newest.pop((owner, handle), None)
            texts.drop(owner, handle)
        assert texts.get(owner, handle) in (None, newest.get((owner, handle)))
        assert 0 <= texts.held_bytes <= 100
    for owner, handle in newest:
        texts.drop(owner, handle)
    assert texts.held_bytes == 0
