#!/usr/bin/env bash
# Captions every MP4 of a folder with a language model of yours: VIDEO.mp4 gets VIDEO.json, its graph, and VIDEO.txt.
#
#     export VSG_CAPTION_BASE_URL=http://127.0.0.1:8001/v1 VSG_CAPTION_MODEL=Qwen/Qwen2.5-VL-3B-Instruct
#     PATH="$PWD/.venv/bin:$PATH" examples/caption_folder.sh FOLDER
#
# Needs the extras `cpu` and `captions`; docs/captions.md says how to run a model.
set -euo pipefail

for video in "$1"/*.mp4; do
    graph="${video%.mp4}.json"
    test -f "$graph" || vsg graph "$video" -o "$graph"
    caption=$(vsg caption "$video" --graph "$graph" --key-frames 2 --max-tokens 200)
    echo "$caption" | tee "${video%.mp4}.txt"
done
