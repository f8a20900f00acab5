"""python -m cxr_experiments.evaluate: score finished runs on the test split, and say so in the test ledger.

The only command (beside a confirmed study) that reads test images.  Threshold and model are frozen before it looks.
"""
