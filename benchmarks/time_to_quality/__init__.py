"""How long until a network is as good as its plain Keras twin becomes: docs/time_to_quality.md.

arms        what is compared, composed and checked; the division and its twin as folders
running     one process, watched from outside, becomes a record
records     that record, kept and read back
judged      records -> the level of each seed, and when it was held
report      everything kept -> Markdown
"""
