"""The seed study as Keras' tutorials teach it, in one file and without this package: what all else is measured against.

python benchmarks/plain_keras.py FOLDER SIZE_PX EPOCHS SEED     # FOLDER holds train/ and val/ with a folder per class
"""

import sys
import time

import keras
import tensorflow as tf
from keras import layers


def batches(folder, size_px, seed):
    """Training and validation batches: (b, size, size, 3) float32 in [0, 255], labels (b, 1) 0 or 1."""
    options = {"label_mode": "binary", "image_size": (size_px, size_px), "batch_size": 32, "seed": seed}
    train, val = (keras.utils.image_dataset_from_directory(f"{folder}/{side}", **options) for side in ("train", "val"))
    return train.cache().shuffle(1000).prefetch(tf.data.AUTOTUNE), val.cache().prefetch(tf.data.AUTOTUNE)


def compiled_model(size_px):
    """Augmentation, five blocks of convolutions, global average pooling, a hidden layer of 256: ready for `fit`."""
    inputs = keras.Input((size_px, size_px, 3))
    x = layers.RandomRotation(10 / 360, fill_mode="constant")(inputs)
    x = layers.RandomTranslation(0.05, 0.05, fill_mode="constant")(x)
    x = layers.RandomZoom(0.1, fill_mode="constant")(x)
    x = layers.RandomContrast(0.1)(x)
    x = layers.Rescaling(1 / 255)(x)
    for filters, convolutions in ((16, 2), (32, 2), (64, 2), (128, 2), (256, 3)):
        for _ in range(convolutions):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.MaxPooling2D()(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.5)(layers.Dense(256, activation="relu")(x))
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    return model


def train(folder, size_px, epochs, seed):
    """The model of the epoch with the lowest validation loss; one line per epoch, timed from here on."""
    began = time.perf_counter()

    def tell(epoch, logs):
        told = f"val_loss={logs['val_loss']:.6f} val_accuracy={logs['val_accuracy']:.6f}"
        print(f"epoch={epoch} {told} elapsed_s={time.perf_counter() - began:.2f}", flush=True)

    keras.utils.set_random_seed(seed)
    train_batches, val_batches = batches(folder, size_px, seed)
    model = compiled_model(size_px)
    stopping = keras.callbacks.EarlyStopping(patience=6, restore_best_weights=True)
    telling = keras.callbacks.LambdaCallback(on_epoch_end=tell)
    model.fit(train_batches, validation_data=val_batches, epochs=epochs, callbacks=[stopping, telling], verbose=0)
    return model


if __name__ == "__main__":
    train(sys.argv[1], *map(int, sys.argv[2:]))
