"""The page: it opens with what matters, shows no nonsense, and says what can't be said."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from degenerate import DEGENERATE
from simulated import Answers, World, planted, simulate

from weam_ray.study.analysis import analyse
from weam_ray.study.answer import answer
from weam_ray.study.export import write_tables
from weam_ray.study.report import write_report
from weam_ray.study.report_input import (
    AlignerFacts,
    CorpusFacts,
    DivergenceFacts,
    EvaluationFacts,
    FailedCell,
    Gate,
    Hole,
    Provenance,
    ReportInput,
    RetrievalFacts,
)
from weam_ray.study.results import Results, View

SANITY = pd.DataFrame(
    [
        {
            "task": "nli",
            "setting": "zero-shot",
            "language": language,
            "split": "test",
            "selection": "",
            "system": system,
            "metric": "accuracy",
            "value": value,
            "n": 60,
            "share_0": 1.0,
            "share_1": 0.0,
            "share_2": 0.0,
        }
        for language in ("en", "qaa", "qab")
        for system, value in (("majority", 0.33), ("word-overlap-only", 0.42))
    ]
)


def source(answers: Answers | None = None, **more: object) -> ReportInput:
    """A study with every kind of fact."""
    answers = answers or simulate(World(items=60, gain=planted(0.05), random_row=True))
    facts: dict[str, object] = {
        "title": "A study",
        "results": answers.results(),
        "sanity": SANITY,
        "gates": (Gate(name="The base beats chance", passed=True, detail="60 against 33"),),
        "corpora": (
            CorpusFacts(
                domain="medical",
                pair="en-qaa",
                read=100,
                kept=80,
                dropped={"duplicate": 15, "too_long": 5},
            ),
        ),
        "evaluated": (
            EvaluationFacts(
                task="mlqa", split="train", languages=1, kept=80, reasons={"answer offset": 2}
            ),
        ),
        "aligners": (AlignerFacts(domain="medical", pair="en-qaa", size=80, aer=0.08),),
        "retrieval": (RetrievalFacts(method="weam", language="qaa", accuracy=0.5, n=40),),
        "divergences": (
            DivergenceFacts(
                domain="medical",
                pair="en-qaa",
                language="qaa",
                words=0.31,
                words_within=0.02,
                subwords=0.21,
                subwords_within=None,
                unseen=0.125,
            ),
        ),
        "holes": (Hole(factors="law en-qab", reason="no such corpus"),),
        "failures": (FailedCell(factors="cell 7", error="loss is not finite", log="logs/7.log"),),
        "provenance": Provenance(command="weam-ray sweep", packages={"torch": "2.13"}),
    }
    facts.update(more)
    return ReportInput(**facts)  # type: ignore[arg-type]


class Page(HTMLParser):
    """What a reader sees, in order, and what the page points at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text(encoding="utf8")
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(self.html)
        self.text = " ".join(self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("style", "title", "desc"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if data.strip() and not self._open:
            self.words.append(" ".join(data.split()))


def page(tmp_path: Path, given: ReportInput) -> Page:
    return Page(write_report(given, tmp_path / "report.html"))


def test_a_demonstration_says_so_in_its_first_line(tmp_path: Path):
    assert page(tmp_path, source(demonstration=True)).words[0] == "Demonstration, not evidence."


def test_a_base_that_fails_its_gates_makes_no_claim(tmp_path: Path):
    gate = Gate(name="The base beats the random encoder", passed=False, detail="33.5 against 39.6")
    found = page(tmp_path, source(gates=(gate,)))
    assert found.words[0].startswith("The base fails the gates and no claim is made.")
    assert "33.5 against 39.6" in found.text
    assert 'class="chart"' not in found.html and "gains +" not in found.text
    assert "Accuracy per language" in found.text and "word overlap only" in found.text


def test_a_gate_that_was_not_checked_blocks_nothing(tmp_path: Path):
    found = page(tmp_path, source(gates=(Gate(name="TLM reads the other side", passed=None),)))
    assert "not checked" in found.text and 'class="chart"' in found.html


def test_the_answer_comes_before_any_chart_and_has_three_sentences(tmp_path: Path):
    given = source()
    said = answer(given, analyse(given))
    assert len(said.sentences) == 3
    found = page(tmp_path, given)
    assert found.html.index(said.sentences[0][:30]) < found.html.index("<svg")
    assert found.words[0] == "A study"


def test_a_gain_and_its_slope_are_named_with_intervals():
    given = source(simulate(World(items=600, seeds=5, gain=planted(0.03))))
    first, second, third = answer(given, analyse(given)).sentences
    assert re.search(r"WEAM gains \+\d+\.\d points \(95 % interval", first)
    assert "rises by" in second and "For +2 points" in second
    assert "no difference from TLM is detectable" in third and "better than WEAM, shuffled" in third


def test_no_effect_is_said_with_what_could_have_been_seen():
    given = source(simulate(World(items=300, seeds=4)))
    first, second, _ = answer(given, analyse(given)).sentences
    assert "no difference between WEAM and no pre-training is detectable" in first
    assert "would be found (80 % probability)" in first
    assert "No slope is detectable" in second and "the data can't say" in second


SAID = {
    "no cell": "No cell has finished",
    "one seed": "one seed says nothing of the spread between seeds",
    "one size": "How the gain grows with size can't be said",
    "one item": "1 of the 10 items that it takes at least",
    "one of each": "nothing can be claimed",
    "no bitext": "Only cells without bilingual text",
    "no baseline": "can't be said: no cells of the two",
    "identical predictions": "these items can't tell them apart",
    "all-correct predictions": "these items can't tell them apart",
    "one class for every item": "these items can't tell them apart",
    "no predictions files": "a cell has no predictions file",
}
"""What a page must say of the studies of :data:`degenerate.DEGENERATE`, where it can't answer."""


@pytest.mark.parametrize("name", DEGENERATE)
def test_small_studies_are_reported_without_nonsense(name: str, tmp_path: Path):
    given = source(results=DEGENERATE[name]())
    found = page(tmp_path, given)
    assert not re.search(r"\b(nan|inf|NaN|None|NaT)\b", found.text)
    assert SAID.get(name, "") in found.text
    effects = re.findall(r"One of (\d+\.\d) would be found", found.text)
    assert all(float(effect) < 100 for effect in effects)
    assert write_tables(given, tmp_path / "tables")


def test_no_finished_cell_is_a_page_too(tmp_path: Path):
    empty = source(results=Results.read([], tmp_path), sanity=pd.DataFrame())
    assert "nothing can be said yet" in page(tmp_path, empty).text


def test_missing_cells_and_missing_baseline_are_said(tmp_path: Path):
    answers = simulate(World(items=60))
    kept = [row for row in answers.rows if row["method"] != "none"]
    found = page(
        tmp_path,
        source(
            Answers(rows=kept, gold=answers.gold, predicted=answers.predicted, world=answers.world)
        ),
    )
    assert "can't be said" in found.text and "WEAM against TLM" in found.text


def test_rows_without_predictions_still_make_a_page(tmp_path: Path):
    results = simulate(World(items=60)).results()
    found = page(tmp_path, source(results=Results(rows=results.rows)))
    assert "no predictions file" in found.text


def test_the_page_asks_the_network_for_nothing(tmp_path: Path):
    found = page(tmp_path, source())
    for tag, attributes in found.tags:
        assert tag not in ("script", "img", "iframe", "object", "embed"), tag
        for name in ("src", "href", "data", "action"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:")), (tag, value)
    assert "url(" not in found.html and "@import" not in found.html


def test_names_from_outside_are_escaped(tmp_path: Path):
    evil = "<script>alert(1)</script>"
    found = page(
        tmp_path,
        source(
            title=evil,
            language_names={"qaa": evil},
            failures=(FailedCell(factors=evil, error=evil),),
        ),
    )
    assert "<script>" not in found.html and evil in found.text


def test_every_chart_has_a_name_and_a_description_and_ids_are_unique(tmp_path: Path):
    found = page(tmp_path, source())
    ids = [str(attributes["id"]) for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    charts = [attributes for tag, attributes in found.tags if tag == "svg"]
    assert charts
    for chart in charts:
        if chart.get("aria-hidden") == "true":
            continue
        assert chart["role"] == "img"
        assert all(name in ids for name in str(chart["aria-labelledby"]).split())


def test_what_the_heat_map_colours_say_is_said_in_words_too(tmp_path: Path):
    found = page(tmp_path, source(simulate(World(items=600, seeds=5, gain=planted(0.03)))))
    cells = re.findall(r'<td class="(gain|loss|grey)".*?</td>', found.html)
    said = re.findall(
        r'<td class="(gain|loss|grey)"[^>]*>[^<]*<span class="unseen"> ([a-z ]+)<', found.html
    )
    assert len(said) == len(cells) == 18
    assert set(said) == {("gain", "holds"), ("grey", "not detectable")}


def test_an_extrapolation_is_drawn_apart_and_told_in_the_description(tmp_path: Path):
    found = page(tmp_path, source(simulate(World(items=600, seeds=5, gain=planted(0.03)))))
    assert 'class="beyond"' in found.html and 'class="beyond-band"' in found.html
    told = re.findall(r"Extrapolated \(([a-z-]+), a guess\): ([0-9.]+) % at 64", found.html)
    assert len(told) == 4  # two methods that gain, in two pairs
    quiet = page(tmp_path, source(simulate(World(items=300, seeds=4))))
    assert 'class="beyond"' not in quiet.html and "Extrapolated (" not in quiet.html


def test_any_two_methods_and_any_two_sizes_are_compared(tmp_path: Path):
    given = source(simulate(World(items=60, methods=("tlm", "word-aligned", "weam"))))
    found = {one.question.name: one for one in analyse(given).pairwise}
    assert "TLM against word-aligned, 16\u202f000 pairs" in found
    sizes = [name for name in found if name.startswith("WEAM: ")]
    assert sizes == [
        "WEAM: 4\u202f000 against 1\u202f000 pairs",
        "WEAM: 16\u202f000 against 1\u202f000 pairs",
        "WEAM: 16\u202f000 against 4\u202f000 pairs",
    ]
    assert not any(name.startswith("WEAM against TLM") for name in found)
    assert all(one.p_holm is not None for one in found.values())
    assert "WEAM: 16 000 against 1 000 pairs" in page(tmp_path, given).text


def test_what_was_dropped_failed_and_could_not_run_is_on_the_page(tmp_path: Path):
    text = page(tmp_path, source(planned_cells=99)).text
    for words in ("duplicate", "too long", "logs/7.log", "no such corpus", "of 99 cells", "2.13"):
        assert words in text


def test_nearness_to_the_task_and_causes_are_on_the_page(tmp_path: Path):
    text = page(tmp_path, source()).text
    assert "0.310" in text and "12.5" in text
    assert "from sentence pairs" in text and "from the right links" in text
    assert "1 domain and pair has a gain and a divergence" in text
    assert "no cells with subset links" in text


def test_a_constant_gain_without_a_slope_names_the_size_that_is_enough():
    world = World(items=600, seeds=5, gain=lambda method, size, pair: 0.1)
    given = source(simulate(world))
    assert (
        "For +2 points, 1\u202f000 pairs are enough." in answer(given, analyse(given)).sentences[1]
    )


def test_a_size_whose_own_gain_is_in_doubt_is_not_called_enough():
    """A constant foretells the largest size best here, and so has any gain at every size."""
    gains = {30: 0.04, 300: 0.28, 3000: 0.29}
    world = World(
        pairs=("en-qaa",),
        sizes=tuple(gains),
        methods=("weam",),
        items=1200,
        seed_sd=0.02,
        gain=lambda method, size, pair: gains.get(size, 0.0),
    )
    given = source(simulate(world))
    found = analyse(given)
    assert found.slopes[0].form == "constant" and found.slopes[0].comparison.found
    assert "For +2 points, 300 pairs are enough." in answer(given, found).sentences[1]


def test_a_task_without_a_blind_guess_draws_none_and_is_called_by_its_metric(tmp_path: Path):
    answers = simulate(World(items=60))
    for row in answers.rows:
        row["metric"] = "exact_match"
    given = source(answers, view=View(metric="exact_match"), chance=0.0)
    found = page(tmp_path, given)
    assert "Exact match by size" in found.text and "chance" not in found.text.split("Gates")[0]


def test_the_same_input_gives_the_same_page(tmp_path: Path):
    assert page(tmp_path, source()).html == page(tmp_path, source()).html


def test_regimes_are_lines_of_their_own_and_compared(tmp_path: Path):
    answers = simulate(World(items=60))
    double = []
    for row in answers.rows:
        if row["method"] == "weam":
            cell = f"{row['cell']}.subset"
            answers.predicted[cell, str(row["language"])] = answers.predicted[
                str(row["cell"]), str(row["language"])
            ]
            double.append({**row, "cell": cell, "regime": "subset"})
    answers.rows.extend(double)
    text = page(tmp_path, source(answers)).text
    assert "WEAM (subset links)" in text and "links from the pool against the subset" in text


def test_a_lopsided_system_is_marked(tmp_path: Path):
    answers = simulate(World(items=60))
    for row in answers.rows:
        row["share_0"], row["share_1"], row["share_2"] = 0.9, 0.05, 0.05
    assert 'class="number lopsided"' in page(tmp_path, source(answers)).html


def test_runs_lopsided_each_in_its_own_way_are_marked_though_their_mean_is_even(tmp_path: Path):
    answers = simulate(World(items=60))
    for row in answers.rows:
        one = int(str(row["finetuning_seed"]))
        row["share_0"], row["share_1"], row["share_2"] = (float(one == k) for k in range(3))
    assert 'class="number lopsided"' in page(tmp_path, source(answers)).html


def luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [0, 1], ids=["light", "dark"])
def test_text_and_lines_have_contrast_enough(palette: int):
    """WCAG 2.2: 4.5 for text, 3 for graphics."""
    css = (Path(__file__).parents[2] / "weam_ray/study/templates/report.css").read_text()
    block = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[palette]
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", block))
    for page_colour in ("page", "card"):
        for text in ("ink", "soft", "c1"):
            assert contrast(colours[text], colours[page_colour]) >= 4.5, (text, page_colour)
        for line in ("c0", "c1", "c2", "c3", "c4", "c5", "c6"):
            assert contrast(colours[line], colours[page_colour]) >= 3, (line, page_colour)
    assert contrast(colours["warn"], colours["warn-page"]) >= 4.5
    for strong in ("gain", "loss"):
        assert contrast(colours["ink"], colours[strong]) >= 3.8, strong
