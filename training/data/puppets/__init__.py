"""Puppet Genome: rendered people acting with things, written to disk as Action Genome lies there."""
