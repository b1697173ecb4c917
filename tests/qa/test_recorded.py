"""Twelve rows train as they were recorded to; the comparison sees what differs."""

import dataclasses
import textwrap

import pytest

from qa import house, recorder

pytestmark = pytest.mark.end_to_end


@pytest.mark.parametrize("name", recorder.ROWS)
def test_a_row_trains_and_prunes_as_it_was_recorded_to(name):
    assert recorder.compare(name) == []


def test_a_rate_that_is_two_percent_larger_is_seen_in_losses_masks_and_metrics(
    monkeypatch,
):
    tiny = recorder.tiny

    def faster(name):
        config = tiny(name)
        optimiser = dataclasses.replace(config.optimiser, learning_rate=1.02e-2)
        return dataclasses.replace(config, optimiser=optimiser)

    monkeypatch.setattr(recorder, "tiny", faster)
    said = "\n".join(recorder.compare("lt4rec.s_weight"))
    for part in ("search click, round 0", "weights differ", "loss of watch", "ctr.auc"):
        assert part in said


def test_a_row_without_a_recording_is_named():
    with pytest.raises(ValueError, match=r"no recording of 'lt4rec\.ple'"):
        recorder.compare("lt4rec.ple")


def test_a_logical_line_is_no_blank_comment_or_docstring(tmp_path):
    path = tmp_path / "some.py"
    path.write_text(
        textwrap.dedent(
            '''
            """A module."""

            X = 1  # a comment beside code
            """What X is."""
            # a comment alone


            def f(a,
                  b):
                """Says
                so."""
                return """two
            lines"""
            '''
        )
    )
    assert house.logical_lines(path) == 5


def test_a_walk_leaves_out_what_it_passes_by():
    config = recorder.tiny("lt4rec.base_ctr")
    with house.files_run() as files:
        config.check()
    assert "experiments/settings/config.py" in files
    with house.files_run({"check"}) as files:
        config.check()
    assert files == set()
