"""Tables say how many settings a row's own were chosen from."""

from __future__ import annotations

from made_scores import PAPER, Scores
from mgd3.planning.config import resolve
from mgd3.reporting.tables import load_scores, make_tables
from mgd3.reporting.tables.paper import load_paper
from mgd3.reporting.tables.render import notes
from workplace import tiny


def _notes(tmp_path, *trials):
    scores = Scores(tmp_path)
    rows = [scores.add(f"{'abc'[k]}", 0.7, method="random") for k in range(len(trials))]
    rows = [{**row, "label": row["run"], "trials": n} for row, n in zip(rows, trials, strict=True)]
    table = make_tables(load_scores(scores.files), rows, load_paper(PAPER))
    return [note for note in notes(table) if "uned" in note or "Settings chosen" in note]


def test_rows_that_are_not_tuned_say_so(tmp_path):
    assert _notes(tmp_path, None, None) == [
        "No row was tuned: all have published or default settings."
    ]


def test_trials_are_printed_and_unequal_ones_called_so(tmp_path):
    (equal,) = _notes(tmp_path, 4, 4, None)
    assert equal == "Settings chosen on the validation split, of so many: a 4, b 4. Not tuned: c."
    (unequal,) = _notes(tmp_path, 4, 16, None)
    assert "not equally many" in unequal


def test_trials_change_no_result_and_no_path():
    plain, tuned = (
        resolve(tiny(runs=[{"method": "random", **more}])).runs[0] for more in ({}, {"trials": 4})
    )
    assert (plain.slug, plain.settings) == (tuned.slug, tuned.settings)
    assert (plain.trials, tuned.trials) == (None, 4)
