"""Scene graphs of videos, the engines that run models, and the networks that are trained and exported.

`models.graph` and `models.engines` need no torch, so that the service can use them; only the torch engine imports it.
`models.networks` needs torch.
"""
