"""Autoscaling policies of users: how a deploy names them, and the process that asks them."""
