"""Unlearning methods, one file each. The file name is the method's name; `expunge.training.registry.find` looks it up here."""
