"""Routers that Ray Serve calls experimental; none of them is available yet."""
