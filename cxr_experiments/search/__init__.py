"""python -m cxr_experiments.search: better settings, sought on validation by trials that are ordinary runs."""
