"""The parts that `train_colorize.py` is built from."""
