"""Gateways, chains and services that stand in for the real ones in the tests."""
