"""A network of one's own: python -m cxr_experiments.train model=custom model.builder=examples/my_net.py:build

`build` gets the images as float32 in [0, 1], shape (n, size, size, 1), and a seed; it returns one feature vector per
image.  The harness adds the logit, trains, scores and saves it like any other network.
"""

import keras


def build(inputs, seed):
    """Four strided convolutions, then the global average."""
    x = inputs
    for block, filters in enumerate((16, 32, 64, 128)):
        start = keras.initializers.HeNormal(seed=seed + block)
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False, kernel_initializer=start)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
    return keras.layers.GlobalAveragePooling2D()(x)
