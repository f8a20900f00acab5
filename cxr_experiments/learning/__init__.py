"""From arrays to trained weights: augmentation, pipeline, model, trainer.  The only wing that knows TensorFlow."""
