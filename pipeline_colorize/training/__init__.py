"""What `train_colorize.py` is made of."""
