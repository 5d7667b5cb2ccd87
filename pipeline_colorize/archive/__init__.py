"""Colours apart from their photograph: small files that are laid over masters of any size."""
