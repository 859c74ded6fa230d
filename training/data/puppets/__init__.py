"""Puppet Genome: rendered people acting with things, written to disk in Action Genome's layout."""
