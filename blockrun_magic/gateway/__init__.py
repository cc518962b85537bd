"""Gateways: requests, the catalog of models, and the HTTP client."""
