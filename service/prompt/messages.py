"""The prompt as chat messages, with key frames of the video when there are some."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from models.graph.phrases import listed
from models.graph.vocabulary import Vocabulary
from service.prompt.key_frames import KeyFrame

Message = dict[str, Any]
"""One chat message, as OpenAI's protocol has it: `role`, and `content`, a text or a list of texts and images."""

_TASK = (
    "Write one short, natural caption of what the {subject} does. Leave out what matters little, add nothing that is "
    "not there, and do not mention the model or the times."
)
_UNSEEN = (
    "You write captions for videos that you cannot see. You get what a scene-graph model read from the video: who and "
    f"what is there, and what happens when. {_TASK}"
)
_SEEN = (
    "You write captions for videos. You get what a scene-graph model read from the video, who and what is there and "
    "what happens when, and then some of its frames. Where a frame clearly shows something else than the model says, "
    f"trust the frame. {_TASK}"
)


def build_messages(prompt: str, vocabulary: Vocabulary, key_frames: Sequence[KeyFrame] = ()) -> list[Message]:
    """The prompt as chat messages: the captioner's task, then what it is to caption.

    Key frames follow the prompt, each after its time, as data URLs.
    """
    subject = listed([vocabulary.noun(label).singular for label in vocabulary.subjects], "or")
    task = (_SEEN if key_frames else _UNSEEN).replace("{subject}", subject)
    return [{"role": "system", "content": task}, {"role": "user", "content": _content(prompt, key_frames)}]


def _content(prompt: str, key_frames: Sequence[KeyFrame]) -> str | list[dict[str, Any]]:
    if not key_frames:
        return prompt
    content: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
    for frame in key_frames:
        content.append({"type": "text", "text": f"The frame at {frame.timestamp:.1f} s:"})
        url = f"data:image/jpeg;base64,{b64encode(frame.jpeg).decode()}"
        content.append({"type": "image_url", "image_url": {"url": url}})
    return content
