"""Bundle to HTTP: decoding, jobs, API and command line. Never imports torch, training or export."""
