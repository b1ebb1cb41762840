"""The embedded default: rendered street scenes, their scripts, captions and sentences."""
