"""Keys with everything in them that somebody might write otherwise."""

from __future__ import annotations

ODD_KEYS = [
    "plain.mp4",
    "two words.mp4",
    "a+b.mp4",
    "a%2Fb%20c.mp4",
    "100%.mp4",
    "영화/한국어 제목.mp4",
    "clip 🎬.mp4",
    "/leading.mp4",
    "//two leading.mp4",
    "a//b///c.mp4",
    "trailing/",
    "q?a=b&c#d.mp4",
    "a:b@c!$'()*,;=~.mp4",
    "e\u0301.mp4",
]
