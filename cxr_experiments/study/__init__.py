"""python -m cxr_experiments.study: a question in one YAML becomes a plan, cells, a comparison and a report."""
