"""What stands beside results of every task and setting: flags, gates, sanity rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from planned_study import read_small, store_of
from test_ledger import facts_of, finished

from weam_ray.study.diagnostics import read_diagnostics
from weam_ray.study.ledger import Shelf


def test_a_language_is_flagged_on_the_items_it_has(tmp_path: Path) -> None:
    study = read_small(tmp_path, grid={"method": "none"})
    plan, store = finished(study), store_of(study)
    facts = facts_of(study, plan, store)
    flags = facts.diagnostics.flags
    assert {(one.language, one.split) for one in flags} == {("de", "test"), ("fr", "test")}
    rows = facts.results.rows
    rows = rows[(rows["language"] != "fr") | (rows["split"] == "dev")]
    fewer = replace(facts.results, rows=rows)
    found = read_diagnostics(plan.cells, Shelf(store), fewer, facts.view, "en", ())
    said = {(one.language, one.split): one.message for one in found.flags}
    assert said["fr", "dev"] == "chance in fr dev" and said["de", "test"] == "chance in de test"
    assert ("de", "dev") not in said
