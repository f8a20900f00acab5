"""From files to arrays: phantom, decode, prepare, manifest, duplicates, splits, store.  No TensorFlow."""
