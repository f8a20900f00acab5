"""A trained network without TensorFlow: LiteRT reads its export, and answers before TensorFlow would be imported."""
