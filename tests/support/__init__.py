"""What several tests need: stores, models and videos in small, oracles, and the command line."""
