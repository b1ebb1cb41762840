"""A trained run used on videos: scores, events, and a page for each video."""
