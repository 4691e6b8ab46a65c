"""From factors to cells: every point of the grid is a cell or a hole with a reason, each once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from planned_study import LANGUAGES, grid_of, labels, plan_of, read_small

from weam_ray.errors import ConfigError, DataError
from weam_ray.study.grid import NO_SEED, Cell, expand


def address(cell: Cell) -> str:
    return cell.experiment.transfer.address


def test_factors_are_crossed_in_the_order_of_the_file(tmp_path: Path) -> None:
    grid = grid_of(read_small(tmp_path, grid={"method": ["none", "tlm", "weam"], "seed": [0, 1]}))
    assert labels(grid) == [
        "none.s0",
        "none.s1",
        "law.en-de.2.tlm.s0",
        "law.en-de.2.tlm.s1",
        "law.en-de.4.tlm.s0",
        "law.en-de.4.tlm.s1",
        "law.en-de.2.weam.s0",
        "law.en-de.2.weam.s1",
        "law.en-de.4.weam.s0",
        "law.en-de.4.weam.s1",
    ]
    assert not grid.holes


def test_methods_without_bitext_collapse_into_one_cell_a_seed(tmp_path: Path) -> None:
    grid = grid_of(
        read_small(
            tmp_path,
            grid={
                "domain": ["law", "talks"],
                "size": [2, 3, 4],
                "method": ["none", "random", "frozen"],
                "seed": [0, 1],
            },
            methods={"frozen": {"pretraining": {"objective": "none"}, "transfer": {"clip": 0.5}}},
        )
    )
    assert labels(grid) == [f"{m}.s{s}" for m in ("none", "random", "frozen") for s in (0, 1)]
    assert {cell.key.subset_seed for cell in grid.cells} == {NO_SEED}
    assert len({address(cell) for cell in grid.cells}) == 6


def test_methods_without_links_do_not_split_by_aligner_regime(tmp_path: Path) -> None:
    grid = grid_of(
        read_small(
            tmp_path, grid={"size": 2, "method": ["tlm", "weam"], "regime": ["pool", "subset"]}
        )
    )
    assert labels(grid) == [
        "law.en-de.2.tlm.s0",
        "law.en-de.2.weam.s0",
        "law.en-de.2.weam.subset.s0",
    ]
    assert len({address(cell) for cell in grid.cells}) == 3


def test_extra_crossings_add_only_what_is_new(tmp_path: Path) -> None:
    extra = [{"domain": "law", "pair": "en-de", "size": [4, 3], "method": ["weam", "none"]}]
    grid = grid_of(read_small(tmp_path, extra=extra))
    assert Counter(labels(grid)).most_common(1)[0][1] == 1
    assert labels(grid)[-1] == "law.en-de.3.weam.s0" and len(grid.cells) == 4


def test_values_given_twice_count_once(tmp_path: Path) -> None:
    grid = grid_of(read_small(tmp_path, grid={"size": [2, 2], "method": ["weam", "weam"]}))
    assert len(grid.cells) == 1


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ({"method": "none"}, {"2.weam.s0", "2.weam.s1", "4.weam.s0", "4.weam.s1"}),
        ({"size": 4}, {"none.s0", "none.s1", "2.weam.s0", "2.weam.s1"}),
        ({"size": 4, "seed": 1}, {"none.s0", "none.s1", "2.weam.s0", "2.weam.s1", "4.weam.s0"}),
        ({"seed": 1}, {"none.s0", "2.weam.s0", "4.weam.s0"}),
        ({"domain": "talks"}, None),
    ],
)
def test_excluded_cells_are_left_out_and_counted(
    tmp_path: Path, pattern: dict[str, Any], left: set[str] | None
) -> None:
    study = read_small(tmp_path, grid={"seed": [0, 1]}, exclude=[pattern])
    grid = grid_of(study)
    found = {label.removeprefix("law.en-de.") for label in labels(grid)}
    whole = grid_of(study.model_copy(update={"exclude": ()}))
    assert left is None or found == left
    assert grid.excluded == (len(whole.cells) - len(grid.cells),)


def test_an_excluded_cell_is_excluded_from_extra_crossings_too(tmp_path: Path) -> None:
    extra = [{"domain": "law", "pair": "en-fr", "size": 9, "method": "weam"}]
    grid = grid_of(read_small(tmp_path, extra=extra, exclude=[{"pair": "en-fr"}]))
    assert not any("en-fr" in label for label in labels(grid))


# --- seeds


def test_one_seed_moves_subset_pre_training_and_fine_tuning_together(tmp_path: Path) -> None:
    (cell,) = grid_of(read_small(tmp_path, grid={"size": 2, "method": "weam", "seed": 3})).cells
    assert (cell.config.subset_seed, cell.config.pretraining.seed, cell.config.transfer.seed) == (
        3,
        3,
        3,
    )


def test_the_three_seeds_are_separable(tmp_path: Path) -> None:
    seeds = {"subset_seed": [0, 1], "pretraining_seed": [0, 1], "finetuning_seed": [0, 1]}
    grid = grid_of(read_small(tmp_path, grid={"size": 2, "method": "weam", **seeds}))
    assert len(grid.cells) == 8 == len(set(labels(grid))) == len({address(c) for c in grid.cells})
    by_key = {
        (c.key.subset_seed, c.key.pretraining_seed, c.key.finetuning_seed): c.experiment
        for c in grid.cells
    }
    assert by_key[0, 0, 0].encoder.address == by_key[0, 0, 1].encoder.address
    assert by_key[0, 0, 0].encoder.address != by_key[0, 1, 0].encoder.address
    assert by_key[0, 0, 0].encoder.address != by_key[1, 0, 0].encoder.address
    assert by_key[0, 0, 0].links[0].address == by_key[1, 0, 0].links[0].address, "a pool's links"


def test_a_cell_without_bitext_shares_the_base_whatever_its_seed(tmp_path: Path) -> None:
    grid = grid_of(read_small(tmp_path, grid={"method": "none", "seed": [0, 1, 2]}))
    assert len({cell.experiment.base.address for cell in grid.cells}) == 1
    assert len({cell.experiment.retrieval.address for cell in grid.cells}) == 1


# --- what is a cell's own


def test_resources_and_places_change_no_address(tmp_path: Path) -> None:
    def addresses(*overrides: str, folder: str = "one") -> list[str]:
        (tmp_path / folder).mkdir(exist_ok=True)
        study = read_small(tmp_path / folder, *overrides)
        return sorted(plan_of(study).steps)

    here = addresses()
    assert addresses("resources.cell_threads=7", "resources.cell_gpus=0.5") == here
    assert addresses("pretraining.log_every=1", "transfer.evaluation_tokens=999") == here
    assert addresses("title=Other", "name=other", "tracking_uri=http://127.0.0.1:1") == here
    assert addresses(folder="two") == here
    assert addresses("pretraining.steps=5") != here


def test_a_changed_input_file_changes_what_is_made_of_it_and_no_more(tmp_path: Path) -> None:
    study = read_small(tmp_path, grid={"domain": ["law", "talks"], "size": 2, "method": "weam"})
    before = {cell.key.domain: address(cell) for cell in grid_of(study).cells}
    (tmp_path / "data" / "law.en-de.de").write_text("other text\n")
    after = {cell.key.domain: address(cell) for cell in grid_of(study).cells}
    assert before["law"] != after["law"] and before["talks"] == after["talks"]


def test_a_named_method_varies_the_settings_of_the_study(tmp_path: Path) -> None:
    methods = {
        "weam-long": {"pretraining": {"objective": "weam", "steps": 9}},
        "weam-union": {"alignment": {"symmetrisation": "union"}},
    }
    grid = grid_of(read_small(tmp_path, grid={"size": 2, "method": list(methods)}, methods=methods))
    long, union = grid.cells
    assert long.config.pretraining.steps == 9 and long.config.pretraining.batch_size == 2
    assert union.config.alignment.symmetrisation == "union"
    assert union.config.pretraining.objective == "weam", "the study's own objective"


def test_a_method_under_a_second_name_is_refused_before_it_is_counted_twice(
    tmp_path: Path,
) -> None:
    study = read_small(
        tmp_path,
        grid={"size": 2, "method": ["weam", "copy"]},
        methods={"copy": {"pretraining": {"objective": "weam"}}},
    )
    with pytest.raises(ConfigError, match="the same work under two names"):
        plan_of(study)


def test_an_unknown_method_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    study = read_small(tmp_path)
    wrong = study.model_copy(update={"grid": study.grid.model_copy(update={"method": ("waem",)})})
    with pytest.raises(ConfigError, match=r"unknown method 'waem'. Known: .*tlm.*weam"):
        grid_of(wrong)


# --- settings: zero-shot, translate-train


def test_translate_train_trains_on_the_other_language_of_the_pair(tmp_path: Path) -> None:
    grid = grid_of(
        read_small(
            tmp_path,
            items={"train_languages": list(LANGUAGES)},
            grid={
                "pair": ["en-de", "fr-en"],
                "size": 2,
                "method": ["none", "weam"],
                "setting": ["zero-shot", "translate-train"],
            },
        )
    )
    assert labels(grid) == [
        "none.s0",
        "none.translate-train.de.s0",
        "none.translate-train.fr.s0",
        "law.en-de.2.weam.s0",
        "law.en-de.2.weam.translate-train.s0",
    ]
    trained = [cell.config.transfer.target_languages for cell in grid.cells]
    assert trained == [None, ("de",), ("fr",), None, ("de",)]
    assert [hole.key.pair for hole in grid.holes] == ["fr-en", "fr-en"]
    shared = {cell.experiment.encoder.address for cell in grid.cells[3:]}
    assert len(shared) == 1, "one encoder is fine-tuned in both settings"


def test_translate_train_without_training_items_in_the_language_is_a_hole(tmp_path: Path) -> None:
    grid = grid_of(
        read_small(tmp_path, grid={"size": 2, "method": "weam", "setting": "translate-train"})
    )
    assert not grid.cells
    assert grid.holes[0].reason == (
        "no training items in de: items.train_languages does not name it"
    )


def test_settings_that_train_on_every_language_take_those_of_the_items(tmp_path: Path) -> None:
    crossed = {"method": "none", "setting": "translate-train-all"}
    lacking = grid_of(read_small(tmp_path, grid=crossed))
    assert not lacking.cells
    assert "no training items in de: items.train_languages" in lacking.holes[0].reason
    items = {"train_languages": ["en", "de", "fr"]}
    config = grid_of(read_small(tmp_path, items=items, grid=crossed)).cells[0].config.transfer
    assert config.source_languages == ("en", "de", "fr")
    # Evaluated is whatever there is, the languages of sets beside the task among it.
    assert config.target_languages is None and config.evaluated_languages is None
    few = read_small(tmp_path, grid={"method": "none", "setting": "few-shot"})
    assert grid_of(few).cells[0].config.transfer.taught == ("de", "fr")


# --- patterns


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("{data_dir}/{domian}.txt", "uses 'domian', which is not known here"),
        ("{data_dir}/{domain.txt", "is no path pattern"),
        ("{data_dir}/{0}.txt", "which is not known here"),
        ("{data_dir}/{domain.x}.txt", "which is not known here"),
    ],
)
def test_a_pattern_that_cannot_be_filled_is_named(tmp_path: Path, pattern: str, words: str) -> None:
    study = read_small(tmp_path, bitext={"source": pattern})
    with pytest.raises(ConfigError) as raised:
        grid_of(study)
    assert words in str(raised.value) and raised.value.place == "bitext.source"
    assert "{opus_pair}" in str(raised.value)


def test_braces_in_the_folder_are_no_names(tmp_path: Path) -> None:
    folder = tmp_path / "{odd} {folder}"
    folder.mkdir()
    assert len(grid_of(read_small(folder)).cells) == 3


def test_a_pattern_that_needs_data_dir_says_how_to_give_it(tmp_path: Path) -> None:
    study = read_small(tmp_path)
    with pytest.raises(ConfigError, match="--set data_dir=FOLDER"):
        expand(study, None)


def test_opus_names_files_by_the_pair_in_alphabetical_order(tmp_path: Path) -> None:
    study = read_small(
        tmp_path,
        bitext={
            "source": "{data_dir}/{domain}.{opus_pair}.{source}",
            "target": "{data_dir}/{domain}.{opus_pair}.{target}",
        },
        grid={"size": 2, "method": "weam"},
    )
    (tmp_path / "data" / "law.de-en.en").write_text("a\n")
    (tmp_path / "data" / "law.de-en.de").write_text("b\n")
    (cell,) = grid_of(study).cells
    assert cell.config.corpora[0].source.name == "law.de-en.en"


def test_bitext_settings_that_do_not_fit_are_placed_in_the_study_file(tmp_path: Path) -> None:
    study = read_small(tmp_path, bitext={"gold": "{data_dir}/gold"})
    with pytest.raises(ConfigError, match=r"^bitext\.segmenter: gold links count words"):
        grid_of(study)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text_languages": ["en", "sw"]}, "no monolingual text for sw"),
        ({"items": {"languages": ["en", "sw"]}}, "no dev file for language 'sw'"),
    ],
)
def test_missing_text_that_every_cell_needs_is_an_error_not_a_hole(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        plan_of(read_small(tmp_path, **changes))
