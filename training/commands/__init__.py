"""The subcommands of `vsg` that need the training extra."""
