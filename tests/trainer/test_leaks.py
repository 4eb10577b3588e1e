from __future__ import annotations

import random

import numpy as np

from trainer.corpus.leaks import HeldOutRuns, LeakCount, LeakLimits, Leaks, count_leaks, stand_ins


def words(seed: int, count: int = 200) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(count)]


def count(held_out: list[str], training: list[tuple[str, str]], limits: LeakLimits | None = None) -> Leaks:
    counting = LeakCount(HeldOutRuns(held_out), limits)
    count_leaks(training, counting)
    return counting.result()


HELD_OUT = words(9999)
QUOTE = HELD_OUT[50:80]  # 30 words are 18 runs of 13


def with_quote(seed: int, quote: list[str]) -> str:
    own = words(seed)
    return " ".join([*own[:90], *quote, *own[90:]])


def test_a_passage_that_quotes_held_out_text_leaks_and_the_others_do_not() -> None:
    training = [(" ".join(words(2)), "a"), (with_quote(3, QUOTE), "b"), (" ".join(words(4)), "c")]
    found = count([" ".join(HELD_OUT)], training)
    assert found.leaking.tolist() == [False, True, False]
    assert (found.runs, found.shared, found.common) == (188, 18, 0)
    assert found.share == 18 / 188


def test_case_and_punctuation_hide_no_leak() -> None:
    quote = [f"“{word.upper()},”" for word in QUOTE]
    assert count([" ".join(HELD_OUT)], [(with_quote(3, quote), "b")]).leaking.tolist() == [True]


def test_a_few_runs_are_allowed_in_a_long_passage_and_not_in_a_short_one() -> None:
    phrase = QUOTE[:14]  # two runs
    long, short = with_quote(5, phrase), " ".join([*words(6, 20), *phrase])
    assert count([" ".join(HELD_OUT)], [(long, "a"), (short, "b")]).leaking.tolist() == [False, True]


def test_what_three_books_have_is_common_property_and_no_leak() -> None:
    training = [(with_quote(seed, QUOTE), f"book {seed}") for seed in (10, 11, 12)]
    found = count([" ".join(HELD_OUT)], training)
    assert found.leaking.tolist() == [False, False, False]
    assert (found.shared, found.common) == (18, 18)


def test_one_book_in_many_passages_or_copies_makes_nothing_common() -> None:
    training = [(with_quote(seed, QUOTE), f"book {seed % 2}") for seed in range(10, 18)]
    found = count([" ".join(HELD_OUT)], training)
    assert found.leaking.all()
    assert found.common == 0


def test_a_copy_of_held_out_text_leaks_even_if_three_books_have_it() -> None:
    copy = " ".join(HELD_OUT[:150])
    training = [(copy, name) for name in "abc"]
    found = count([" ".join(HELD_OUT)], training)
    assert found.leaking.all()
    assert found.common == found.shared == 138


def test_passages_may_come_in_any_parts_and_in_any_number() -> None:
    training = [(with_quote(seed, QUOTE if seed % 7 == 0 else []), f"book {seed % 2}") for seed in range(300)]
    whole = count([" ".join(HELD_OUT)], training)
    counting = LeakCount(HeldOutRuns([" ".join(HELD_OUT)]))
    for start in range(0, 300, 77):
        count_leaks(training[start : start + 77], counting)
    assert np.flatnonzero(whole.leaking).tolist() == list(range(0, 300, 7))
    assert np.array_equal(counting.result().leaking, whole.leaking)


def test_without_held_out_text_or_without_training_text_nothing_leaks() -> None:
    nothing = count([], [("Some words.", "a")])
    assert (nothing.runs, nothing.share, nothing.leaking.tolist()) == (0, 0.0, [False])
    assert count([" ".join(HELD_OUT)], []).leaking.tolist() == []


def test_stand_ins_are_whole_books_of_about_the_size_of_the_held_out_side() -> None:
    books = {f"book {number}": 1 + number % 5 for number in range(100)}
    chosen = stand_ins(books, 20)
    assert 20 <= sum(books[book] for book in chosen) < 25
    assert stand_ins(books, 20) == chosen != stand_ins(books, 20, draw=1)
    assert sum(books[book] for book in stand_ins(books, 10_000)) <= sum(books.values()) / 2


def test_stand_ins_are_not_held_against_themselves() -> None:
    texts = [(" ".join(words(seed)), f"book {seed}") for seed in range(20)]
    chosen = stand_ins(dict.fromkeys((book for _, book in texts), 1), 5)
    counting = LeakCount(HeldOutRuns(text for text, book in texts if book in chosen), without=chosen)
    count_leaks(texts, counting)
    assert counting.result().shared == 0
