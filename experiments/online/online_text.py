"""Table 3 simulated, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.analysis.report.document import grid, p_text
from experiments.analysis.report.results import tuning_notes

OLD_RESAMPLES = 1000
"""Draws behind the intervals of results that do not say how many."""


def to_text(found: Mapping[str, Any]) -> str:
    """Table 3 for both sets of exponents, its bounds, and offline against online."""
    sessions, candidates, places = found["sessions"]
    parts = [
        f"{sessions:,} sessions of the test day, {candidates} candidates each, {places}"
        f" shown; view time to expect under the truth.\nThe paper: {found['paper']}."
    ]
    a, b, c = found["chosen"].values()
    parts.append(
        f"Of {len(found['tried'])} exponents the sessions of the validation day choose"
        f" a = {a:g}, b = {b:g}, c = {c:g}, for all pairs."
    )
    for name, part in found["weightings"].items():
        a, b, c = part["exponents"].values()
        parts.append(
            f"{name}: pCTR^{a:g} · pCVR^{b:g} · length^{c:g}\n\n"
            + grid(_columns(part["pairs"]), markdown=True)
        )
        parts.append(
            "\n".join(_said(m, rho) for m, rho in part["offline"].items())
            + "\n(Spearman over the rows; +1: what is better offline is better online)"
        )
    drawn = found.get("resamples", OLD_RESAMPLES)
    parts.append(
        "p: paired t over seeds, with Holm's correction over the pairs of one table;"
        f" over sessions: {drawn:,} draws of whole users; over rows: as many of rows."
    )
    bounds = [f"{name} {value:.1f} s" for name, value in found["bounds"].items()]
    parts.append("Bounds: " + ", ".join(bounds))
    drawn = [
        f"{pair} {x['mean']:.1f} s ({x['difference']:+.1f}{_ends(x['ci95_sessions'])})"
        for pair, x in found["drawn"].items()
    ]
    parts.append("Reactions drawn once (minus expected): " + ", ".join(drawn))
    return "\n\n".join([*parts, *tuning_notes(found)])


def _columns(pairs: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    versus = [pair.get("vs_base") for pair in pairs.values()]
    show = lambda text: ["–" if v is None else text(v) for v in versus]
    return [
        ["CTR / CVR", *pairs],
        ["view time, s", *(f"{pair['mean']:.1f}" for pair in pairs.values())],
        ["95 % over seeds", *(_ends(p["ci95"], "") for p in pairs.values())],
        ["over sessions", *(_ends(p["ci95_sessions"], "") for p in pairs.values())],
        ["Δ", *show(lambda v: f"{v['relative']:+.2%}")],
        ["Δ s, 95 % over seeds", *show(lambda v: _ends(v["ci95"], ""))],
        ["Δ s, over sessions", *show(lambda v: _ends(v["ci95_sessions"], ""))],
        ["p (Holm)", *show(p_text)],
    ]


def _ends(interval: Sequence[float] | None, before: str = "; ") -> str:
    if interval is None:
        return "" if before else "–"
    return before + "{:.2f} … {:.2f}".format(*interval)


def _said(metric: str, found: Mapping[str, Any]) -> str:
    title, count = metric.replace(".", " ").upper(), len(found["models"])
    if found["by_seed"] is None or found["by_seed"]["mean"] is None:
        return f"{title} of {count} rows: no correlation to speak of"
    seeds, means = found["by_seed"], found["of_means"]
    return (
        f"{title} against view time, {count} rows: ρ {seeds['mean']:+.2f} over seeds"
        f" ({_ends(seeds['ci95'], '')}), {means['value']:+.2f} of the rows' means"
        f" ({_ends(means['ci95'], '')})"
    )
