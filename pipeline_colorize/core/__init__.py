"""What travels with a released model: the pipeline, its networks and its colour science."""
