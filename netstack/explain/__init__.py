"""Views of what a stack did, for people: they read trace events and wire formats, nothing else.

``dissect`` takes frames apart, ``layers`` shows each frame of a run layer by layer with the reason
it was sent, ``narrative`` tells a fetch as a story, ``page`` makes one HTML page of both.
"""
