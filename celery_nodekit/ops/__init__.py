"""Runs a deployment: process configuration from the topology."""
