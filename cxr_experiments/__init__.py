"""cxr_experiments: honest ablations of chest X-ray classifiers.

    config      what a run may vary, with ranges; composition; identity
    images      files -> manifest -> split -> store of uint8 arrays
    learning    store -> tf.data -> Keras model -> trained weights (the only wing that knows TensorFlow)
    evidence    predictions -> metrics with intervals
    record      run folder, MLflow, figures

Commands: python -m cxr_experiments.{train,evaluate,predict,preview,verify,study,search,compare,runs,reproduce,download,
    export,register}
"""

__version__ = "0.1.0"
