"""Loading from the Hub, on folders laid out as the Hub lays them out."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from weam_ray.errors import ConfigError, DataError, ResourceError
from weam_ray.transfer import ItemsConfig, load_items
from weam_ray.transfer.hub import HubSplit, fetch_split

datasets = pytest.importorskip("datasets")

NAMES = ["entailment", "neutral", "contradiction"]
ORDER = [2, 0, 1, 1, 0, 2]


def save(rows: dict[str, list[Any]], path: Path) -> None:
    features = datasets.Features(
        {name: datasets.Value("string") for name in rows if name != "label"}
        | {"label": datasets.ClassLabel(names=NAMES)}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))


def write_card(folder: Path, configurations: dict[str, dict[str, str]]) -> None:
    lines = ["---", "configs:"]
    for name, splits in configurations.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, path in splits.items():
            lines += [f"  - split: {split}", f"    path: {path}"]
    (folder / "README.md").write_text("\n".join([*lines, "---", "# A data set", ""]))


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """facebook/xnli with a configuration per language, and nyu-mll/multi_nli with one."""
    root = tmp_path_factory.mktemp("mirror")
    xnli = root / "facebook" / "xnli"
    for language in ("en", "de"):
        for split in ("train", "validation", "test"):
            rows = {
                "premise": [f"{language} {split} premise {number}" for number in range(6)],
                "hypothesis": [f"{language} {split} hypothesis {number}" for number in range(6)],
                "label": ORDER,
            }
            save(rows, xnli / language / f"{split}-00000-of-00001.parquet")
    splits = ("train", "validation", "test")
    write_card(
        xnli,
        {
            language: {split: f"{language}/{split}-*" for split in splits}
            for language in ("en", "de")
        },
    )
    mnli = root / "nyu-mll" / "multi_nli"
    rows = {
        "pairID": [f"{number}e" for number in range(6)],
        "premise": [f"p{number}" for number in range(6)],
        "premise_parse": ["(ROOT)"] * 6,
        "hypothesis": [f"h{number}" for number in range(6)],
        "genre": ["fiction"] * 6,
        "label": ORDER,
    }
    save(rows, mnli / "data" / "train-00000-of-00001.parquet")
    write_card(mnli, {"default": {"train": "data/train-*"}})
    return root


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def config(cache: Path, mirror: Path | None, **settings: Any) -> ItemsConfig:
    defaults = {
        "train": "hub:nyu-mll/multi_nli/default/train",
        "dev": "hub:facebook/xnli/{language}/validation",
        "test": "hub:facebook/xnli/{language}/test",
        "languages": ("en", "de"),
    }
    return ItemsConfig(**(defaults | settings), hub_cache=cache, hub_mirror=mirror, offline=True)


@pytest.mark.usefixtures("no_network")
def test_xnli_and_mnli_load_as_the_hub_lays_them_out(mirror: Path, tmp_path: Path) -> None:
    items = load_items(config(tmp_path, mirror))
    assert items.num_rows == 6 + 2 * 6 + 2 * 6
    assert items["label"].to_pylist() == ORDER * 5
    assert items["item"][:2].to_pylist() == ["0e", "1e"]
    assert items["premise"][12].as_py() == "de validation premise 0"


@pytest.mark.usefixtures("no_network")
def test_translate_train_reads_each_languages_own_training_set(
    mirror: Path, tmp_path: Path
) -> None:
    settings = {"train": "hub:facebook/xnli/{language}/train", "train_languages": ("en", "de")}
    items = load_items(config(tmp_path, mirror, **settings))
    assert items["premise"][6].as_py() == "de train premise 0"


@pytest.mark.usefixtures("no_network")
def test_offline_reads_what_was_fetched_and_names_what_was_not(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="not fetched yet .* the run is offline"):
        load_items(config(tmp_path, None))
    cache = tmp_path / "of the Hub"
    real_load = datasets.load_dataset
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda name, *rest, **more: real_load(str(mirror / name), *rest, **more),
    )
    online = config(cache, None).model_copy(update={"offline": False})
    fetched = load_items(online)
    assert load_items(config(cache, None)).equals(fetched)
    assert not list(tmp_path.rglob(".fetching-*"))
    with pytest.raises(DataError, match="facebook/xnli/fr/validation"):
        load_items(config(cache, None, languages=("en", "de", "fr")))


@pytest.mark.usefixtures("no_network")
def test_a_mirror_that_changed_is_read_anew_and_never_taken_for_the_hub(
    mirror: Path, tmp_path: Path
) -> None:
    own = shutil.copytree(mirror, tmp_path / "mirror")
    cache = tmp_path / "cache"
    before = load_items(config(cache, own))
    split = own / "facebook" / "xnli" / "de" / "test-00000-of-00001.parquet"
    rows = {"premise": ["new"] * 6, "hypothesis": ["h"] * 6, "label": ORDER}
    save(rows, split)
    after = load_items(config(cache, own))
    assert not after.equals(before) and "new" in after["premise"].to_pylist()
    with pytest.raises(DataError, match="not fetched yet"):
        load_items(config(cache, None))


def test_a_revision_is_asked_for_and_kept_apart(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []
    real_load = datasets.load_dataset

    def load(name: str, *rest: Any, revision: str | None, **more: Any) -> Any:
        asked.append(revision)
        return real_load(str(mirror / name), *rest, **more)

    monkeypatch.setattr(datasets, "load_dataset", load)
    names = ("hub:facebook/xnli@1d2ce39/de/test", "hub:facebook/xnli/de/test")
    paths = {
        fetch_split(HubSplit.parse(name), tmp_path, offline=False, mirror=None) for name in names
    }
    assert asked == ["1d2ce39", None] and len(paths) == 2
    with pytest.raises(ConfigError, match="a mirror has no revision '1d2ce39'"):
        fetch_split(HubSplit.parse(names[0]), tmp_path, offline=False, mirror=mirror)


@pytest.mark.usefixtures("no_network")
def test_a_missing_configuration_or_data_set_leaves_nothing_behind(
    mirror: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no such data set, configuration or split"):
        load_items(config(tmp_path, mirror, languages=("en", "sw")))
    with pytest.raises(DataError, match="no such data set, configuration or split"):
        load_items(config(tmp_path, mirror, dev="hub:facebook/xnli/{language}/dev"))
    with pytest.raises(DataError, match="the mirror has no folder"):
        load_items(config(tmp_path, mirror, dev="hub:someone/else/{language}/dev"))
    names = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert set(names) <= {"train.parquet", "validation.parquet"}


def test_a_hub_that_cannot_be_reached_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    source = HubSplit.parse("hub:facebook/xnli/de/test")
    with pytest.raises(ResourceError, match="can't fetch it"):
        fetch_split(source, tmp_path, offline=False, mirror=None)


@pytest.mark.parametrize("text", ["hub:xnli", "hub:a/b/c", "hub:a/b/../d", "hub:a/b/c/d/e"])
def test_a_malformed_name_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="names no split of the Hub"):
        HubSplit.parse(text)


@pytest.mark.usefixtures("no_network")
def test_a_data_set_that_is_a_script_is_refused_in_words(tmp_path: Path) -> None:
    folder = tmp_path / "mirror" / "facebook" / "mlqa"
    folder.mkdir(parents=True)
    (folder / "mlqa.py").write_text("import datasets\n")
    source = HubSplit("facebook/mlqa", "mlqa.en.en", "test")
    with pytest.raises(DataError, match="datasets can't load it .*scripts are no longer") as error:
        fetch_split(source, tmp_path / "cache", offline=True, mirror=tmp_path / "mirror")
    assert "give their paths" in str(error.value.cure)


@pytest.mark.usefixtures("no_network")
def test_files_of_a_data_set_that_are_damaged_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "mirror" / "a" / "b"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "test-00000-of-00001.parquet").write_bytes(b"PAR1 but not really PAR1")
    write_card(folder, {"default": {"test": "data/test-*"}})
    with pytest.raises(DataError, match="can't be read"):
        fetch_split(
            HubSplit("a/b", "default", "test"),
            tmp_path / "cache",
            offline=True,
            mirror=tmp_path / "mirror",
        )
