"""Training data: Action Genome, annotations of pairs, Puppet Genome."""
