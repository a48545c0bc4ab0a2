"""The scores in the report: a sentence, and tables of everything that `metrics.json` and `worst.json` hold."""

from __future__ import annotations

from typing import Any

from floodline.geometry import Box
from floodline.publishing import page
from floodline.publishing.places import query
from floodline.publishing.viewer import ADDRESS

Record = dict[str, Any]
STRICT, LENIENT = "all_labelled", "labelled_by_both"
CONVENTIONS = {STRICT: "all labelled voxels", LENIENT: "labelled and segmented"}
SCORES = {
    "voxels": "voxels",
    "coverage": "coverage",
    "voi_split": "VOI split",
    "voi_merge": "VOI merge",
    "adapted_rand_error": "adapted Rand",
    "precision": "precision",
    "recall": "recall",
    "rand_error": "Rand error",
    "cremi": "CREMI",
}
ALONG_SKELETONS = {
    "cable_nm": "cable, nm",
    "erl_nm": "run length, nm",
    "nerl": "normalised",
    "edges_correct": "correct",
    "edges_split": "split",
    "edges_merged": "merged",
    "edges_omitted": "omitted",
    "merge_threshold_nodes": "merger from nodes",
}
DETECTION = {
    "voxels_from": "voxels from",
    "voxels_below": "below",
    "neurons": "neurons",
    "neurons_found": "found",
    "segments": "segments",
    "segments_matched": "matched",
}
TERMS = (
    ("all labelled voxels", "Every voxel with a label counts; the unsegmented ones together are one object."),
    ("labelled and segmented", "Only voxels that have a label and are segmented count."),
    ("coverage", "Share of the labelled voxels that are segmented."),
    ("VOI split", "Bits missing to know a voxel's segment when its true neuron is known: pieces. 0 is perfect."),
    ("VOI merge", "Bits missing to know its true neuron when its segment is known: false joins. 0 is perfect."),
    ("adapted Rand", "1 − the harmonic mean of precision and recall over pairs of voxels. 0 is perfect."),
    ("precision, recall", "Of the pairs of voxels in one segment, the share in one neuron; and the reverse."),
    ("Rand error", "Share of all pairs of voxels that are together in one and apart in the other."),
    ("CREMI", "Root of the sum of both VOIs times the adapted Rand error."),
    ("run length", "Mean length of the error-free piece in which a random place of the true skeletons lies."),
    ("correct, split, merged, omitted", "Shares of the length of the true skeletons."),
    ("found, matched", "Overlapping a segment, or a neuron, by more than half of their union."),
)


def headline(records: list[Record]) -> Record | None:
    """What stands for the run: the neurons, all labelled voxels counted, in the held-out box if there is one."""
    candidates = [r for r in records if r["segmentation"] == "neurons" and r["convention"] == STRICT]
    return next((r for r in candidates if r["box_name"] == "held_out"), candidates[0] if candidates else None)


def verdict(best: Record | None, neurons: int) -> str:
    """The run in one sentence."""
    if best is None:
        return f"The volume was segmented into {page.number(neurons)} neurons; without labels, nothing was scored."
    split, merge = best["voi_split"], best["voi_merge"]
    much_apart = abs(split - merge) > 0.2 * (split + merge)
    balance = (", mostly splits" if split > merge else ", mostly mergers") if much_apart else ""
    return (
        f"On the {_box(best['box_name'])} the neurons have an adapted Rand error of "
        f"{page.number(best['adapted_rand_error'])} and a variation of information of {split + merge:.2f} bits "
        f"({split:.2f} split + {merge:.2f} merge{balance}), with {best['coverage']:.1%} of the labelled voxels "
        "segmented and all of them counted."
    )


def _box(name: str) -> str:
    words = {"held_out": "held-out box, which training never saw,", "all": "labelled volume"}
    return words.get(name, f"box “{name.replace('_', ' ')}”")


def section(records: list[Record], mistakes: list[Record]) -> str:
    """Everything in `metrics.json`, and the worst mistakes; nothing if there are no scores."""
    if not records:
        return ""
    best = headline(records)
    places = {r["box_name"]: Box.of(r["box_xyz"]) for r in records}
    scores = [[*_what(r), CONVENTIONS[r["convention"]], *(r[key] for key in SCORES)] for r in records]
    intervals = [
        [*_what(r), CONVENTIONS[r["convention"]], SCORES[score], low, high]
        for r in records
        for score, (low, high) in r["intervals"].items()
    ]
    along = [[*_what(r), *(r["skeletons"][key] for key in ALONG_SKELETONS)] for r in records if "skeletons" in r]
    found = [[*_what(r), *(row[key] for key in DETECTION)] for r in records for row in r.get("detection", [])]
    worst = [
        [
            *_what(m),
            m["kind"],
            m["voxels"],
            page.Link(_listed(m["position_xyz"]), ADDRESS + query(m)),
            _listed(m["neurons"]),
            _listed(m["segments"]),
        ]
        for m in mistakes
    ]
    what = ["box", "segmentation"]
    return page.section(
        "Scores",
        page.table([*what, "over", *SCORES.values()], scores, main=[r is best for r in records]),
        page.paragraph("; ".join(f"{_words(name)}: {box}" for name, box in places.items()) + " (voxels)."),
        _unless_empty([*what, "over", "score", "low", "high"], intervals, "95 % of resampled tissue lies between"),
        _unless_empty([*what, *ALONG_SKELETONS.values()], along, "Along the skeletons of the true neurons"),
        _unless_empty([*what, *DETECTION.values()], found, "Objects found, by size"),
        page.terms(TERMS),
        page.folded(
            "The largest mistakes, and where to look",
            page.paragraph(
                "A place leads to the viewer, with the segments selected, while `floodline view` is running."
            ),
            page.table([*what, "mistake", "voxels", "x, y, z", "true neurons", "segments"], worst),
        )
        if worst
        else "",
    )


def _what(record: Record) -> list[str]:
    return [_words(record["box_name"]), _words(record["segmentation"])]


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _unless_empty(head: list[str], rows: list[list[Any]], caption: str) -> str:
    return page.table(head, rows, caption) if rows else ""
