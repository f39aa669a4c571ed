"""NNCLR pretraining on TensorFlow: data, augmentation, model, loop and export.

Knows TensorFlow and Keras. Only `trainer.run_fn` knows TFX, and nothing here knows `components` or `pipeline`.
"""
