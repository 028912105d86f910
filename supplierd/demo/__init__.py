"""The demonstration behind `supplierd demo`: a real daemon, a real clip, and workers of different speed."""
