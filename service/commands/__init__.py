"""The service's subcommands of `vsg`; each module holds the one of its name."""
