#!/usr/bin/env bash
# Posts a video with curl, follows it to its end, and saves the graph and the prompt beside it.
#
#     examples/plain_curl.sh VIDEO.mp4 http://127.0.0.1:8000
#
# Needs a service (`make serve`) and curl.
set -euo pipefail

video=$1 address=$2

# 202, and the place where the graph will be.
place=$(curl --silent --show-error --fail-with-body --output /dev/stderr --write-out '%header{location}' \
    --header 'Prefer: respond-async' --form "video=@$video" --form fps=2 "$address/videos")
curl --silent --no-buffer "$address$place/events"  # closes after the event `end`
curl --silent --fail-with-body --output "${video%.*}.json" "$address$place"
curl --silent --fail-with-body --output "${video%.*}.txt" "$address$place/prompt"
