"""Gateways, chains and services that play a part in the tests."""
