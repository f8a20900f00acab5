"""The words of a report that do not depend on its numbers: methods, references, and the CLAIM checklist."""

from __future__ import annotations

from cxr_experiments.evidence.comparison import Comparison
from cxr_experiments.record.report.facts import StudyFacts
from cxr_experiments.record.report.tables import Table

REFERENCES = (
    "Obuchowski, Rockette (1995), Commun. Stat. Simul. Comput. 24, 285-308: random readers and cases",
    "Hillis (2007), Stat. Med. 26, 596-619: degrees of freedom",
    "Hillis, Berbaum, Metz (2008), Acad. Radiol. 15, 647-661: single-arm intervals",
    "Dunnett (1955), J. Am. Stat. Assoc. 50, 1096-1121: several options against one baseline",
    "Schuirmann (1987), J. Pharmacokinet. Biopharm. 15, 657-680: equivalence within a margin",
    "DeLong, DeLong, Clarke-Pearson (1988), Biometrics 44, 837-845; Obuchowski (1997), Biometrics 53, 567-578",
    "McNemar (1947), Psychometrika 12, 153-157; Nadeau, Bengio (2003), Mach. Learn. 52, 239-281",
    "Tejani et al. (2024), Radiology: Artificial Intelligence 6(4), e240300: CLAIM, 2024 update",
)
STRESS = (
    "Stress validation judges the validation images under eight declared changes (framing, shift, rotation, exposure, "
    "contrast, blur, noise, JPEG) at one severity. It measures robustness to these changes. It does not foresee how an "
    "arm does on films from elsewhere, the official test split included."
)


def methods_paragraph(facts: StudyFacts, comparison: Comparison) -> str:
    """What was done, as a methods section says it."""
    num_options = len(comparison.differences)
    what = f"{facts.folds}-fold patient-grouped cross-validation" if facts.folds else "a patient-grouped cut"
    varied = ", ".join(facts.vary) or "nothing"
    family = (
        f"Intervals of the {num_options} comparisons are simultaneous at 95 % (joint distribution of the smallest p, "
        f"correlation of the differences estimated over patients and seeds)"
        if num_options > 1
        else "The interval is at 95 %"
    )
    where = {
        "validation": "the validation images, each repetition its own cut where the split varies",
        "test": "the official test split, opened once for all cells after the protocol was locked in the test ledger",
    }[facts.stage]
    return (
        f"A baseline and {num_options} one-factor change(s) were trained with {len(facts.seeds)} seeds each on {what}; "
        f"a seed varied {varied}, and all arms shared it. {comparison.label} was judged on {where}. Thresholds "
        f"({facts.threshold_rule}) were frozen on validation images. Differences were analysed after Obuchowski and "
        f"Rockette with Hillis' degrees of freedom, seeds as random readers and patients as random cases, covariances "
        f"by jackknife over patients; the interval of one arm's mean is the single-arm analysis on the logit scale. "
        f"{family}. With limits L and U of the difference (positive is better) and a "
        f"margin m of {comparison.margin:g}: L > m better; 0 < L <= m better with relevance unresolved, or within the "
        f"margin if U <= m; mirrored for worse; L <= 0 <= U inside (-m, m) equivalent; anything else not resolved."
    )


# Items of the 2024 update; the second column is what the harness can say, empty where the authors must.
CLAIM_ITEMS = (
    ("1 Identification as a study of AI, naming the approach", "a convolutional network, ablation study"),
    ("2 Structured abstract", ""),
    ("3 Scientific and clinical background", ""),
    ("4 Aims, objectives, hypotheses", "question"),
    ("5 Prospective or retrospective", ""),
    ("6 Study goal", "question"),
    ("7 Data sources", "data"),
    ("8 Inclusion and exclusion criteria", ""),
    ("9 Data preprocessing", "data"),
    ("10 Selection of data subsets", "data"),
    ("11 De-identification", ""),
    ("12 Missing data", ""),
    ("13 Image acquisition protocol", ""),
    ("14 Definition of the reference standard", "labels as the data set gives them"),
    ("15 Rationale for the reference standard", ""),
    ("16 Source of reference annotations", ""),
    ("17 Annotation of test set", ""),
    ("18 Measures of inter- and intrarater variability", ""),
    ("19 How data were assigned to partitions", "split"),
    ("20 Level at which partitions are disjoint", "patients"),
    ("21 Intended sample size", "counts"),
    ("22 Detailed description of the model", "config of each cell"),
    ("23 Software libraries, frameworks, packages", "versions in each cell"),
    ("24 Initialization of model parameters", "seeds"),
    ("25 Details of training approach", "config of each cell"),
    ("26 Method of selecting the final model", "kept weights"),
    ("27 Ensembling techniques", "none"),
    ("28 Metrics of model performance", "metric"),
    ("29 Statistical measures of significance and uncertainty", "methods"),
    ("30 Robustness or sensitivity analysis", "stress validation; sensitivity table"),
    ("31 Methods for explainability", ""),
    ("32 Evaluation on internal data", "stage"),
    ("33 Testing on external data", ""),
    ("34 Clinical trial registration", ""),
    ("35 Numbers of patients, examinations, images", "counts"),
    ("36 Demographic and clinical characteristics", ""),
    ("37 Performance metrics and their uncertainty", "results"),
    ("38 Estimates of diagnostic performance and precision", "results"),
    ("39 Failure analysis", "images that one arm gets right and the other wrong"),
    ("40 Study limitations", ""),
    ("41 Implications for practice", ""),
    ("42 Full study protocol", "study file and lock"),
    ("43 Availability of software, model, data", "commands and commit"),
    ("44 Sources of funding", ""),
)


def claim_table(facts: StudyFacts, comparison: Comparison) -> Table:
    """The checklist, each item filled by the study or left to the authors."""
    first = comparison.differences[0]
    known = {
        "question": facts.question,
        "data": "see Data",
        "split": "patient-grouped, stratified by label, by hashes over seed and group",
        "patients": "patients" if first.num_patients else "not verifiable",
        "counts": f"{first.num_images:,} images, {first.num_patients or 'unknown'} patient keys judged; see Data",
        "seeds": f"random, seeds {', '.join(map(str, facts.seeds))}",
        "metric": comparison.label,
        "methods": "see Methods",
        "stage": f"on {facts.stage}",
        "results": "see the first tables",
        "kept weights": _kept_weights(facts),
        "commands and commit": f"commit {facts.commit or 'not known'}; see Commands",
    }
    filled = {item: known.get(said, said) for item, said in CLAIM_ITEMS}
    rows = tuple((item, said or "to be filled by the authors") for item, said in filled.items())
    unfilled = [item.partition(" ")[0] for item, said in filled.items() if not said]
    count = len(rows) - len(unfilled)
    note = f"{count} of {len(rows)} items are told by the study itself; its authors fill items {', '.join(unfilled)}."
    return Table("CLAIM checklist, 2024 update", note, ("item", "this study"), rows)


def _kept_weights(facts: StudyFacts) -> str:
    """Which epoch's weights a run ends with; arms that take their last one are named."""
    last = [
        arm.name
        for arm in facts.arms
        if any(one.best_epoch != lowest for one, lowest in zip(arm.costs, arm.lowest_epochs, strict=True))
    ]
    others = f"; {', '.join(last)}: of the last epoch" if last else ""
    return f"weights of the epoch with the lowest validation loss{others}"
