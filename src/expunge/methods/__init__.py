"""One file a method; the file's name is the method's name, and this folder is the registry (see `expunge.training.registry.find`)."""
