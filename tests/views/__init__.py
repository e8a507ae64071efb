"""Tests of the views on host trees: golden outputs, properties against the oracle, and broken inputs."""
