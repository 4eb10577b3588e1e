from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bot.engine.line import Line
from bot.engine.pace import Pace

asked = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40)


def line_of(pairs: list[tuple[int, int]]) -> Line[int]:
    line: Line[int] = Line()
    for n, (server, user) in enumerate(pairs):
        line.add(n, server, f"{user} of {server}")
    return line


def test_servers_take_turns_and_so_do_the_users_of_one() -> None:
    line: Line[str] = Line()
    for text, server, user in [("a", "A", 1), ("b", "A", 1), ("c", "A", 1), ("m", "A", 2), ("x", "B", 3), ("y", "B", 3)]:
        line.add(text, server, user)
    assert "".join(line.pop() for _ in range(6)) == "axmybc"


def test_one_who_asks_for_ten_is_passed_by_one_who_asks_for_one() -> None:
    line = line_of([(0, 0)] * 10 + [(0, 1)])
    line.pop()
    assert line.pop() == 10


def test_who_is_not_named_is_somebody_else_each_time() -> None:
    line: Line[str] = Line()
    for text, server, user in [("a", None, 1), ("b", None, 1), ("x", None, None), ("y", None, None), ("m", 1, None)]:
        line.add(text, server, user)
    assert "".join(line.pop() for _ in range(5)) == "axymb"


@given(asked)
def test_the_order_that_is_told_is_the_order_that_comes_and_a_users_texts_keep_theirs(pairs: list[tuple[int, int]]) -> None:
    line = line_of(pairs)
    told = list(line.in_turn())
    assert len(line) == len(pairs)
    came = [line.pop() for _ in pairs]
    assert told == came
    assert sorted(came) == list(range(len(pairs)))
    for pair in set(pairs):
        own = [n for n in came if pairs[n] == pair]
        assert own == sorted(own)


@given(asked, st.sets(st.integers(0, 39)))
def test_who_leaves_changes_no_others_order_and_is_not_counted(pairs: list[tuple[int, int]], gone: set[int]) -> None:
    line = line_of(pairs)
    line.remove(gone)
    assert len(line) == len(list(line)) == len([n for n in range(len(pairs)) if n not in gone])
    assert not gone & set(line.in_turn())


def test_what_had_begun_comes_before_all_others() -> None:
    line = line_of([(0, 0), (1, 0)])
    line.put_back([7, 8])
    assert [line.pop() for _ in range(4)] == [7, 8, 0, 1]


def test_the_estimate_is_what_stands_before_over_the_slots_at_the_measured_pace() -> None:
    pace = Pace()
    assert pace.waits_s([10], [10, 10], 1) == [None, None]
    pace.took(0.5)
    assert pace.waits_s([10], [10, 10], 1) == [5.0, 10.0]
    assert pace.waits_s([10, 4], [10, 10, 10], 2) == [2.0, 5.0, 7.0]
    assert pace.waits_s([10], [10], 2) == [0.0]


def test_stories_that_end_early_shorten_the_estimate() -> None:
    pace = Pace()
    pace.took(1.0)
    for _ in range(200):
        pace.ended(50, 100)
    (wait_s,) = pace.waits_s([100], [100], 1)
    assert wait_s is not None
    assert 49 < wait_s < 52
