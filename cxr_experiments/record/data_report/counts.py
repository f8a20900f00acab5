"""How many images stand where, whether that is what the source is known to hold, and which files are no images."""

from __future__ import annotations

import math
from collections import Counter

from cxr_experiments.images.manifest import Manifest
from cxr_experiments.images.published import Known, known
from cxr_experiments.record.data_report.finding import ERROR, INFO, Finding, Looked
from cxr_experiments.record.report.tables import Table, counted

SPLITS = ("train", "val", "test", "")
_UNDIVIDED = "undivided"
# Between the shares of the second class in training and in test images: what is worth saying, and what is not chance.
_SHARE_GAP, _STANDARD_ERRORS = 0.05, 3.0


def check_counts(looked: Looked) -> list[Finding]:
    """Against what the source is known to hold, and one class share against the other."""
    manifest = looked.manifest
    expected = known(manifest.source)
    found = _wrong_counts(manifest, expected) if expected else []
    return [*found, *_unreadable(looked), *_shares(manifest)]


def counts_table(manifest: Manifest) -> Table:
    """Images and patient keys per split, and the share of the second class."""
    expected, counts = known(manifest.source), _counts(manifest)
    rows = []
    for split in SPLITS:
        here = [counts[split, label] for label in (0, 1)]
        if not sum(here):
            continue
        told = [f"{count:,}{_beside(expected, split, label, count)}" for label, count in enumerate(here)]
        keys = f"{len(_patients(manifest, split)):,}" if manifest.patients_verifiable else "not verifiable"
        rows.append((split or _UNDIVIDED, *told, f"{sum(here):,}", percent(here[1] / sum(here)), keys))
    note = "Against what this source is known to hold." if expected else "No published counts to hold these against."
    columns = ("split", *manifest.classes, "images", f"share of {manifest.classes[1]}", "patient keys")
    return Table("Images", note, columns, tuple(rows))


def percent(share: float) -> str:
    """`74.3 %`."""
    return f"{100 * share:.1f} %"


def _counts(manifest: Manifest) -> Counter[tuple[str, int]]:
    return Counter((row.split, row.label) for row in manifest.rows)


def _patients(manifest: Manifest, split: str) -> set[str]:
    return {row.patient for row in manifest.rows if row.split == split and row.patient}


def _beside(expected: Known | None, split: str, label: int, count: int) -> str:
    """` (known: 1,341)` where that is another number."""
    wanted = expected.counts.get((split, label), 0) if expected else count
    return "" if wanted == count else f" (known: {wanted:,})"


def _wrong_counts(manifest: Manifest, expected: Known) -> list[Finding]:
    counts = _counts(manifest)
    wanted = Counter(expected.counts)
    if _val_stands_in_train(counts, wanted):
        sentence = "val is not a folder of its own and stands in train, as in the first publication of this set"
        return [Finding(INFO, "val-in-train", sentence, "Nothing: train and val are pooled and divided anew anyway.")]
    wrong = [
        f"{split or _UNDIVIDED} {manifest.classes[label]} holds {counts[split, label]:,}, known are "
        f"{wanted[split, label]:,}"
        for split, label in sorted({*counts, *wanted})
        if counts[split, label] != wanted[split, label]
    ]
    advice = (
        "Get the set again (python -m cxr_experiments.download), or name your own selection as what it is: "
        "data=folder or data=csv."
    )
    found = [Finding(ERROR, "counts-wrong", f"image counts differ: {'; '.join(wrong)}", advice)] if wrong else []
    keys = {split: len(_patients(manifest, split)) for split in expected.num_patients}
    other = [
        f"{split} has {keys[split]:,} patient keys, known are {number:,}"
        for split, number in expected.num_patients.items()
        if keys[split] != number
    ]
    if other and not wrong:
        found.append(Finding(ERROR, "patient-keys-wrong", f"file names differ: {'; '.join(other)}", advice))
    return found


def _val_stands_in_train(counts: Counter[tuple[str, int]], wanted: Counter[tuple[str, int]]) -> bool:
    pooled = {("train", label): wanted["train", label] + wanted["val", label] for label in (0, 1)}
    return dict(counts) == {**pooled, **{("test", label): wanted["test", label] for label in (0, 1)}}


def _unreadable(looked: Looked) -> list[Finding]:
    bad = {looked.manifest.rows[number].image_id: one.reason for number, one in looked.fingerprints.bad_files.items()}
    if not bad:
        return []
    reasons = Counter(bad.values()).most_common(3)
    told = "; ".join(f"{reason} ({count:,})" for reason, count in reasons)
    sentence = f"{counted(len(bad), 'file')} cannot be decoded: {told}"
    advice = "Mend or remove them; data.on_bad_file=skip trains without them and records which."
    files = tuple((image_id,) for image_id in sorted(bad))
    return [Finding(ERROR, "unreadable", sentence, advice, files, tuple(bad[image_id] for (image_id,) in files))]


def _shares(manifest: Manifest) -> list[Finding]:
    counts = _counts(manifest)
    pool = [counts["train", label] + counts["val", label] for label in (0, 1)]
    test = [counts["test", label] for label in (0, 1)]
    if not sum(pool) or not sum(test):
        return []
    shares = pool[1] / sum(pool), test[1] / sum(test)
    both = (pool[1] + test[1]) / (sum(pool) + sum(test))
    error = math.sqrt(both * (1 - both) * (1 / sum(pool) + 1 / sum(test)))
    if abs(shares[0] - shares[1]) <= max(_SHARE_GAP, _STANDARD_ERRORS * error):
        return []
    name = manifest.classes[1]
    sentence = (
        f"{name} is {percent(shares[0])} of {sum(pool):,} training and validation images and {percent(shares[1])} of "
        f"{sum(test):,} test images"
    )
    advice = "Compare AUROC, sensitivity and specificity across splits; accuracy and precision move with the share."
    return [Finding(INFO, "class-share-differs", sentence, advice)]
