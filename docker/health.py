"""Exits with 0 when the service in this container answers that it is ready: `health.py PORT`."""

import sys
from http.client import HTTPConnection

# Not urllib: it would send this request to a proxy that the container's environment may name.
connection = HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=5)
connection.request("GET", "/health/ready")
sys.exit(connection.getresponse().status != 200)
