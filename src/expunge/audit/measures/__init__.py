"""Extra measures, one file each. `expunge.audit.measure` finds them by their files."""
