from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from trainer.errors import TrainerError
from trainer.grammar.check import problems
from trainer.grammar.errors import GrammarError
from trainer.grammar.grammar import MAX_WORDS, MIN_WORDS, Grammar, bundled
from trainer.grammar.nouns import Noun, noun_from
from trainer.grammar.plots import read_plots
from trainer.grammar.source import read
from trainer.grammar.telling import Cast, tell
from trainer.grammar.words import read_words
from trainer.variety import variety

PLOT = """== The lamp
about: thing
> {thing} that answers
> {Hero} finds {a thing}

- {Hero} found {a thing} and {friend} saw {him}.
- {The thing} was {hero}'s, as {his} aunt had said to {friend}.

sometimes:
+ It [rained|snowed|].

- @kept "Keep it," said {friend:he}. / {He} did.
- @sold "Sell it," said {friend:he}. / {He} did.

- @kept {The thing.short} is kept.
- @sold {The thing.short} is sold.
"""
WORDS = """== thing
lamp
egg

== thing-kind
old
green

== she-name
Ada

== he-name
Bo

== job: name | tool
baker | rolling pin
[tailor|cutter] | needle
"""


def grammar_in(folder: Path, plot: str = PLOT, words: str = WORDS) -> Path:
    (folder / "common").mkdir(parents=True)
    (folder / "fantasy").mkdir()
    (folder / "common" / "words.txt").write_text(words + "\n== thing-prompt\n{thing}\n")
    (folder / "common" / "more.txt").write_text("== place\nhut\n\n== being: name | pronoun\nfox | it\n")
    (folder / "fantasy" / "plots.txt").write_text(plot)
    return folder


def cast_of(folder: Path, seed: int = 1) -> Cast:
    return Cast(read_words(sorted((grammar_in(folder) / "common").glob("*.txt"))), Random(seed))


def test_a_path_is_kept_to_the_end(tmp_path: Path) -> None:
    folder = grammar_in(tmp_path)
    lists = read_words(sorted((folder / "common").glob("*.txt")))
    plot = read_plots(folder / "fantasy" / "plots.txt")[0]
    told = [tell(plot, Cast(lists, Random(seed))) for seed in range(60)]
    assert all(("Keep it" in text) == text.endswith("is kept.") for text in told)
    assert len({text[-8:] for text in told}) == 2
    assert {"rained" in text for text in told} == {True, False}


def test_pronouns_follow_the_name(tmp_path: Path) -> None:
    cast = cast_of(tmp_path)
    line = cast.fill("{Hero}: {he}, {him}, {his}, {himself}; {friend}: {friend:he}, {friend:him}, {friend:his}.", "x")
    assert line in (
        "Ada: she, her, her, herself; Bo: he, him, his.",
        "Bo: he, him, his, himself; Ada: she, her, her.",
    )


def test_a_slot_is_one_thing_through_the_story_and_two_numbers_are_two(tmp_path: Path) -> None:
    for seed in range(20):
        cast = cast_of(tmp_path / str(seed), seed)
        one, tool, other = cast.fill("{job}|{job.tool}|{job2}", "x").split("|")
        assert (one, tool) in (("baker", "rolling pin"), ("tailor", "needle"), ("cutter", "needle"))
        assert (one == "baker") != (other == "baker")


@pytest.mark.parametrize(
    ("word", "article"), [("egg", "an egg"), ("hourglass", "an hourglass"), ("unicorn", "a unicorn"), ("old egg", "an old egg")]
)
def test_articles_are_as_spoken(word: str, article: str) -> None:
    assert Noun(word, word).form("a") == article


@pytest.mark.parametrize(
    ("prompt", "kind", "bare", "short"),
    [
        ("magic castle", "place", "magic castle", "castle"),
        ("a clockwork octopus", "being", "clockwork octopus", "octopus"),
        ("The Clockwork Octopus who can't swim", "being", "clockwork Octopus", "Octopus"),
        ("seven wild octopuses", "being", "seven wild octopus", "octopus"),
        ("a blorf", "thing", "blorf", "blorf"),
        ("castle in the clouds", "place", "castle", "castle"),
        ("...", "thing", "thing", "thing"),
    ],
)
def test_any_prompt_is_about_something(prompt: str, kind: str, bare: str, short: str) -> None:
    found, noun = noun_from(prompt, {"castle": "place", "octopus": "being"})
    assert (found, noun.bare, noun.short) == (kind, bare, short)


@pytest.mark.parametrize(
    ("plot", "says"),
    [
        ("- a beat", "plots.txt:1 stands before any plot"),
        ("== A\nabout: thing\n- one\n", "has 1 beats"),
        ("== A\nabout: dream\n\n- one\n\n- two\n\n- three\n", "thing, place or being"),
        ("== A\nabout: thing\nhello\n", "plots.txt:3 is no part of a plot"),
        ("== A\nabout: thing\n\n- @x one\n\n- @x two\n- @y three\n\n- four\n", "no way for @y"),
        ("== A\nabout: thing\n\n- one\n+ two\n\n- three\n\n- four\n", "all with - or all with +"),
    ],
)
def test_a_plot_that_cannot_be_read_is_named_with_its_line(tmp_path: Path, plot: str, says: str) -> None:
    with pytest.raises(GrammarError, match=re.escape(says)):
        Grammar(grammar_in(tmp_path, plot))


@pytest.mark.parametrize(
    ("text", "says"),
    [("{colour}", "nothing is called 'colour'"), ("{job.hat}", "no part 'hat'"), ("{job:he}", "no pronoun"), ("{}", "a brace")],
)
def test_a_slot_that_nothing_fills_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(GrammarError, match=f"plots.txt:7.*{says}"):
        cast_of(tmp_path).fill(text, "plots.txt:7")


@pytest.mark.parametrize(
    ("words", "says"),
    [("lamp\n", "before any list"), ("== job: name | tool\nbaker\n", "has 1 parts"), ("== Two Words\n", "no heading")],
)
def test_a_list_that_cannot_be_read_is_named_with_its_line(tmp_path: Path, words: str, says: str) -> None:
    with pytest.raises(GrammarError, match=says):
        Grammar(grammar_in(tmp_path, words=words))


def test_the_check_finds_what_is_wrong(tmp_path: Path) -> None:
    found = list(problems(Grammar(grammar_in(tmp_path)).genres["FANTASY"]))
    assert any("words; aim at" in problem for problem in found)
    assert any("said in 2 ways" in problem for problem in found)


@pytest.mark.parametrize("wrong", ["the a lamp", "a old lamp", "an the lamp"])
def test_the_check_finds_an_article_that_does_not_fit(tmp_path: Path, wrong: str) -> None:
    plot = PLOT.replace("{Hero} found {a thing}", f"{{Hero}} found {wrong} for {{a thing}}")
    assert any(repr(wrong.rsplit(" ", 1)[0]) in problem or repr(wrong) in problem for problem in told(tmp_path / "wrong", plot))
    right = PLOT.replace("{Hero} found {a thing}", "{Hero} found an old lamp, a European one, for {a thing}")
    assert not any("for an article" in problem for problem in told(tmp_path / "right", right))


def told(folder: Path, plot: str) -> list[str]:
    return list(problems(Grammar(grammar_in(folder, plot)).genres["FANTASY"]))


FINISHED = [name for name, genre in bundled().genres.items() if len(genre.plots) >= 25]


@pytest.mark.parametrize("genre", FINISHED)
def test_the_bundled_plots_have_nothing_that_the_check_finds(genre: str) -> None:
    known = bundled().genres[genre]
    assert list(problems(known)) == []
    assert len({plot.name for plot in known.plots}) == len(known.plots)


@pytest.mark.parametrize("genre", sorted(bundled().genres))
def test_two_stories_of_a_genre_are_seldom_alike(genre: str) -> None:
    random = Random(7)
    alike = variety([[bundled().tell(genre, random).text for _ in range(300)]], 2000, 300)
    assert alike.pairs == 2000
    assert alike.over_half <= 0.01


def test_variety_tells_copies_from_stories() -> None:
    one, other, third = "one two three four five six seven", "a b c d e f g h", "red green blue white black gray"
    assert variety([[one, one]], 10, 2).over_half == 1
    assert variety([[one, one]], 10, 2).distinct_4 == 0.5
    apart = variety([[one, other], [third]], 10, 2)
    assert (apart.over_half, apart.shared, apart.distinct_4, apart.pairs) == (0, 0, 1, 5)


@pytest.mark.parametrize("genre", sorted(bundled().genres))
@pytest.mark.parametrize("about", ["clockwork octopus", "the volcano", "a library on the moon"])
def test_a_story_is_about_what_nobody_has_heard_of(genre: str, about: str) -> None:
    head = noun_from(about, {})[1].short
    for seed in range(5):
        tale = bundled().tell(genre, Random(seed), about)
        assert tale.prompt == about
        assert tale.text.lower().count(head) >= 2
        assert MIN_WORDS <= len(tale.text.split()) <= MAX_WORDS


def test_the_source_gives_different_stories_of_every_genre_and_the_same_ones_again() -> None:
    first, again = list(read(count=160)), list(read(count=160))
    assert first == again
    assert len({text.text for text in first}) == 160
    assert set(Counter(text.genre for text in first)) == set(bundled().genres)
    assert all(text.prompt and text.book.startswith(f"grammar/{text.genre}/") for text in first)
    assert [text.text for text in read(count=40, seed=2)] != [text.text for text in first[:40]]


def test_stories_are_about_what_a_file_says(tmp_path: Path) -> None:
    path = tmp_path / "about.txt"
    path.write_text("clockwork octopus\n\nmoon bakery\n")
    texts = list(read(str(path), count=16))
    assert {text.prompt for text in texts} == {"clockwork octopus", "moon bakery"}
    with pytest.raises(TrainerError, match="can't be read"):
        list(read(str(tmp_path / "none.txt"), count=1))
    path.write_text("\n")
    with pytest.raises(TrainerError, match="is empty"):
        list(read(str(path), count=1))


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = [sys.executable, "-m", "trainer", "grammar", "--genre", "comedy", "--count", "2000"]
    telling = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert telling.stdout is not None
    assert telling.stderr is not None
    assert telling.stdout.readline().startswith("[COMEDY] ")
    telling.stdout.close()
    assert telling.wait(timeout=60) == 128 + signal.SIGPIPE
    assert telling.stderr.read() == ""
