"""The model card says what an encoder is made of, by whose method, and under which terms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from small_corpus import Corpus, pair_set

from weam_ray.pretraining import (
    BaseConfig,
    PretrainingConfig,
    fetch_base,
    load_tokenizer,
    prepare,
    pretrain,
    pretrain_on,
)
from weam_ray.pretraining.card import Base, Origin, write_card

ORIGIN = Origin(
    base=Base(model="google-bert/bert-base-multilingual-cased", revision="3f076fdb"),
    files={"aa-bb": ["News.aa.gz", "News.bb.gz"]},
    aligner={"iterations": 5, "regime": "pool", "symmetrisation": "grow-diag-final-and"},
    licences=["News (Someone 2020): CC BY-SA 4.0", "mBERT (Devlin et al. 2019): Apache 2.0"],
)
CITED = {
    "weam": ["yang2021weam", "conneau2019cross", "dyer2013simple"],
    "tlm": ["conneau2019cross"],
    "word-aligned": ["cao2020multilingual", "dyer2013simple"],
    "mlm": ["devlin2019bert"],
}


def matter(folder: Path) -> dict[str, Any]:
    head = (folder / "README.md").read_text(encoding="utf8").split("---\n")[1]
    found: dict[str, Any] = yaml.safe_load(head)
    return found


def section(folder: Path, name: str) -> str:
    return (folder / "README.md").read_text(encoding="utf8").split(f"## {name}\n")[1].split("##")[0]


@pytest.mark.parametrize("objective", CITED)
def test_a_card_has_method_base_data_sizes_licences_and_citations(
    objective: str, base_dir: Path, corpus: Corpus, texts: dict[str, Path], tmp_path: Path
) -> None:
    config = PretrainingConfig(objective=objective, steps=4, max_length=48)
    prepared = prepare(load_tokenizer(base_dir), [pair_set(corpus)], config)
    facts = pretrain_on(prepared, base_dir, config, tmp_path, origin=ORIGIN)
    assert matter(tmp_path) == {
        "language": ["aa", "bb"],
        "license": "other",
        "license_name": "those-of-its-data-listed-below",
        "base_model": "google-bert/bert-base-multilingual-cased",
        "library_name": "transformers",
        "pipeline_tag": "fill-mask",
    }
    base = "Continued from `google-bert/bert-base-multilingual-cased`, revision `3f076fdb`."
    assert base in section(tmp_path, "Method")
    data = section(tmp_path, "Data")
    tokens, epochs = facts["tokens_by_set"]["aa-bb"], facts["epochs_by_set"]["aa-bb"]
    assert f"| aa-bb | 200 | {tokens:,} | {epochs} | News.aa.gz, News.bb.gz |" in data
    assert tokens == facts["tokens_in_rows"]
    assert ("symmetrisation: grow-diag-final-and" in data) == config.uses_links
    for line in ORIGIN.licences:
        assert f"- {line}\n" in section(tmp_path, "Licences")
    counted = section(tmp_path, "What was counted")
    assert f"| parameters | {facts['parameters']:,} |" in counted
    cited = section(tmp_path, "Citation")
    assert [line.split("{")[1].rstrip(",") for line in cited.splitlines() if "@" in line] == CITED[
        objective
    ]


def test_replayed_text_is_named_and_its_method_cited(
    base_dir: Path, corpus: Corpus, texts: dict[str, Path], tmp_path: Path
) -> None:
    config = PretrainingConfig(objective="tlm", steps=4, max_length=48, replay_share=0.5)
    pretrain(base_dir, [pair_set(corpus)], config, tmp_path, replay_texts=texts)
    assert (
        "2 of the 4 steps replayed monolingual text, as masked language modelling: aa (128 rows),"
        " bb (128 rows)."
    ) in section(tmp_path, "Data")
    assert "devlin2019bert" in section(tmp_path, "Citation")
    assert "license" not in matter(tmp_path)
    assert "Those of the data named above." in section(tmp_path, "Licences")


def test_a_card_names_no_place_on_this_machine(
    base_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    fetched, out = tmp_path / "fetched", tmp_path / "out"
    for folder in (fetched, out):
        folder.mkdir()
    fetch_base(BaseConfig(model=str(base_dir)), fetched)
    pretrain(fetched, [pair_set(corpus)], PretrainingConfig(steps=1, max_length=48), out)
    for folder, name in ((fetched, base_dir.name), (out, "fetched")):
        card = (folder / "README.md").read_text(encoding="utf8")
        assert f"the model in a folder called `{name}`" in card
        assert str(tmp_path) not in card and str(base_dir) not in card
        assert "base_model" not in matter(folder)
    assert f"\n# {base_dir.name}\n" in (fetched / "README.md").read_text(encoding="utf8")


def test_a_copy_of_a_hub_model_names_it(tmp_path: Path) -> None:
    config = BaseConfig(model="xlm-roberta-base", revision="e73636d4")
    write_card(tmp_path, "base", config, {"parameters": 278_000_000}, [])
    assert matter(tmp_path)["base_model"] == "xlm-roberta-base"
    assert "It is `xlm-roberta-base`, revision `e73636d4`, as it was." in section(
        tmp_path, "Method"
    )


def test_a_licence_that_is_the_hubs_word_stands_as_it_is_and_truth_is_a_word(
    tmp_path: Path,
) -> None:
    facts = {"steps": 3, "stopped_early": True}
    origin = Origin(licences=["cc-by-sa-4.0"])
    write_card(tmp_path, "encoder", PretrainingConfig(), facts, ["no"], origin)
    assert matter(tmp_path)["license"] == "cc-by-sa-4.0"
    assert matter(tmp_path)["language"] == ["no"], "and not YAML's false"
    assert "| stopped_early | yes |" in section(tmp_path, "What was counted")
